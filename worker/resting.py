"""Flags that wait for their rate: until then nobody looks for their rows.

When the time has come the process's own watch kicks them; no thread waits for it.
"""

from __future__ import annotations

import threading
import time

from models import PendingFlag

#: Set when the process's own watch is to look at once: Redis takes no bell, or a flag
#: has begun to rest.
look_again = threading.Event()


class Rests:
    """The flags that rest, by their labels, and until when (monotonic)."""

    def __init__(self) -> None:
        self._resting: dict[str, tuple[float, PendingFlag]] = {}
        self._lock = threading.Lock()

    def begin(self, flag: PendingFlag, *, seconds: float) -> None:
        """Let `flag` rest for so long, and be kicked then."""
        with self._lock:
            self._resting[flag.label] = time.monotonic() + seconds, flag
        look_again.set()

    def hold(self, flag: PendingFlag) -> bool:
        """Say whether `flag` rests."""
        resting = self._resting.get(flag.label)
        return resting is not None and resting[0] > time.monotonic()

    def next(self) -> float:
        """Return when the next rest ends, monotonic; infinity if there is none."""
        with self._lock:
            ends = [until for until, _ in self._resting.values()]
        return min(ends, default=float("inf"))

    def take_ended(self) -> list[PendingFlag]:
        """Return the flags whose rest is over since the last time."""
        with self._lock:
            now = time.monotonic()
            ended = [flag for until, flag in self._resting.values() if until <= now]
            for flag in ended:
                del self._resting[flag.label]
        return ended


rests = Rests()
