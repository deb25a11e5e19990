"""How many rows to claim at once: as many as are handled in a moment.

A claim costs as much as many quick handlers, so quick rows are claimed in hundreds;
but a row that waits behind a slow one is held for nothing.
"""

from __future__ import annotations

import time

_MOMENT_SECONDS = 0.04
_MOST_ROWS = 100
_FASTEST_GROWTH = 8

_SUSPECTS_REST_SECONDS = 0.1  # to look for them costs a claim of their own


class Pace:
    """What a process knows of one handler's rows. Threads share it; a lost update is
    made good by the next.

    Attributes:
        rows: how many to claim next, 1 to 100.
    """

    def __init__(self) -> None:
        self.rows = 1
        self._suspects_rest_until = 0.0
        self._others_had_a_turn = False

    def took(self, rows: int, seconds: float) -> None:
        """Learn that so many rows were handled, one after the other, in so long."""
        fitting = rows * _MOMENT_SECONDS / max(seconds, 1e-6)
        most = min(self.rows * _FASTEST_GROWTH, _MOST_ROWS)
        self.rows = max(1, min(round(fitting), most))

    def stumbled(self) -> None:
        """Learn that rows that were tried together had to be tried one by one."""
        self.rows = 1

    def suspects_are_next(self) -> bool:
        """Say whether it is the turn of rows whose last claim had no end."""
        return self._others_had_a_turn and time.monotonic() > self._suspects_rest_until

    def had_a_turn(self, *, suspects: bool) -> None:
        """Learn whose turn it was, once it is over."""
        self._others_had_a_turn = not suspects
        if suspects:
            self._suspects_rest_until = time.monotonic() + _SUSPECTS_REST_SECONDS
