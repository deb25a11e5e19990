"""How many rows to claim at once: as many as are handled in a moment.

A claim costs as much as many quick handlers, so quick rows are claimed in hundreds;
but a row that waits behind a slow one is held for nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_MOMENT_SECONDS = 0.04
_MOST_ROWS = 100
_MOST_OF_SLOW_CLAIMS = 500
_SLOW_CLAIM_SECONDS = 0.01
_STUCK_SECONDS = 1
_ASKING_SECONDS = 0.1
_FASTEST_GROWTH = 8
_FASTEST_FALL = 4

_QUICKEST_SECONDS = 1  # of which the quickest rows are remembered

_SUSPECTS_REST_SECONDS = 1  # to look for them costs a claim of their own


class Pace:
    """What a process knows of one handler's rows. Threads share it; a lost update is
    made good by the next.

    Attributes:
        rows: how many to claim next, 1 to 100; to 500 if claims are slow.
        is_alone: rows are not to be tried together any more.
    """

    def __init__(self) -> None:
        self.rows = 1
        self._most = _MOST_ROWS
        self.is_alone = False
        self._one_claim = threading.Lock()
        self._claiming_since = float("inf")
        self._quickest = self._quickest_before = float("inf")  # seconds a row
        self._quickest_since = 0.0
        self._suspects_rest_until = 0.0
        self._others_had_a_turn = False

    @contextmanager
    def claiming(self) -> Iterator[bool]:
        """Let one thread at a time claim in the block: claims at the same time would
        all look at, and lock, the same rows. It is False if one hangs."""
        while not (is_stuck := self.claim_is_stuck()):
            if self._one_claim.acquire(timeout=_ASKING_SECONDS):
                break
        if is_stuck:
            yield False
            return
        started = self._claiming_since = time.monotonic()
        try:
            yield True
        finally:
            self._claiming_since = float("inf")
            self._one_claim.release()
            self._claimed(time.monotonic() - started)

    def claim_is_stuck(self) -> bool:
        """Say whether a claim hangs, as it does while somebody has locked the table:
        more threads would be missing elsewhere."""
        return time.monotonic() > self._claiming_since + _STUCK_SECONDS

    def _claimed(self, seconds: float) -> None:
        """Learn how long a claim took. One that has many partitions to look into, or to
        step over all that was done while some transaction stays open, takes as much
        longer for few rows as for many."""
        most = int(_MOST_ROWS * seconds / _SLOW_CLAIM_SECONDS)
        self._most = max(_MOST_ROWS, min(most, _MOST_OF_SLOW_CLAIMS))

    def took(self, rows: int, seconds: float) -> None:
        """Learn that the handlers of so many rows took so long, all in all."""
        if not rows:
            return
        fitting = round(rows * _MOMENT_SECONDS / max(seconds, 1e-6))
        most = min(self.rows * _FASTEST_GROWTH, self._most)
        self.rows = max(1, self.rows // _FASTEST_FALL, min(fitting, most))
        now = time.monotonic()
        if now > self._quickest_since + _QUICKEST_SECONDS:
            self._quickest_since, self._quickest_before = now, self._quickest
            self._quickest = float("inf")
        self._quickest = min(self._quickest, seconds / rows)

    @property
    def row_seconds(self) -> float:
        """How long a row took of late, when it was kept waiting least by what else
        goes on; infinity if none was handled."""
        return min(self._quickest, self._quickest_before)

    def stumbled(self, *, for_good: bool) -> None:
        """Learn that rows that were tried together had to be tried one by one."""
        self.rows = 1
        self.is_alone = self.is_alone or for_good

    def suspects_are_next(self) -> bool:
        """Say whether it is the turn of rows whose last claim had no end: every other
        turn while there are any, else once in a while."""
        now = time.monotonic()
        are_next = self._others_had_a_turn and now > self._suspects_rest_until
        self._others_had_a_turn = not are_next
        if are_next:
            self._suspects_rest_until = now + _SUSPECTS_REST_SECONDS
        return are_next

    def found_suspect(self) -> None:
        """Learn that there was one: there may be more."""
        self._suspects_rest_until = 0
