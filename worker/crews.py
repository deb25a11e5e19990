"""Crews: the threads of a process that drain one flag, no more than are of use.

Handlers that wait, for a mail server or a disk, get further together. Quick ones wait
for Python's own lock most of the time: one thread does more of their rows than eight,
which keep each other waiting.
"""

from __future__ import annotations

import threading
import time

_USEFUL_SECONDS = 0.001  # one more thread is, for each of these that a row takes
_FRESH_SECONDS = 0.1  # whoever claimed longer ago may be stuck: others go on


class Crew:
    """Who drains a flag in this process.

    Whoever is not needed leaves a note: it has heard a bell, for rows that only a claim
    from now on is sure to see. Nobody leaves while there is one.
    """

    def __init__(self) -> None:
        self._claimed: dict[int, float] = {}  # when, monotonic, by thread
        self._note = False
        self._lock = threading.Lock()

    def joins(self, row_seconds: float) -> bool:
        """Say whether this thread is needed, and so of the crew until it leaves.

        Args:
            row_seconds: how long a row takes; infinity if that is not known.
        """
        me = threading.get_ident()
        with self._lock:
            since = self._claimed.pop(me, time.monotonic())
            if self._fresh() > row_seconds / _USEFUL_SECONDS:
                self._note = True
                return False
            self._claimed[me] = since
            return True

    def claims(self) -> None:
        """Tell that this thread claims now: it sees what any bell so far was for."""
        with self._lock:
            self._claimed[threading.get_ident()] = time.monotonic()
            self._note = False

    def notes(self) -> None:
        """Leave a note: a bell was heard, and this thread will not claim."""
        with self._lock:
            self._note = True

    def leaves(self, *, anyway: bool = False) -> bool:
        """Say whether this thread has left: not if there is a note, but `anyway`."""
        with self._lock:
            may_leave = anyway or not self._note
            if may_leave:
                self._claimed.pop(threading.get_ident(), None)
            return may_leave

    def is_stuck(self) -> bool:
        """Say, once, whether there is a note that nobody is going to see soon."""
        with self._lock:
            is_stuck = self._note and not self._fresh()
            self._note = self._note and not is_stuck
            return is_stuck

    def _fresh(self) -> int:
        now = time.monotonic()
        return sum(now - at < _FRESH_SECONDS for at in self._claimed.values())
