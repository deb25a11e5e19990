"""What happened in this process and is not in the database yet, and its pulse.

Counting costs a drain nothing but a dictionary's entry; `reporting` writes it down.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from models.operations import ALL
from models.tallies import buckets

__all__ = ["ALL", "Tallies", "pulse", "tallies"]

_MOST = 10_000  # different numbers; beyond them what is new is not counted


class Tallies:
    """How often what happened to which flag, since somebody took the numbers."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def add(self, label: str, *counted: tuple[str, int]) -> None:
        """Count for the flag called `label`, or `ALL`: names, and how often."""
        with self._lock:
            if len(self._counts) < _MOST:
                for name, n in counted:
                    self._counts[label, name] += n

    def so_far(self, label: str, name: str) -> int:
        """Return how often it was counted since somebody took the numbers."""
        with self._lock:
            return self._counts[label, name]

    def take(self) -> Counter[tuple[str, str]]:
        """Return the numbers, and begin anew."""
        with self._lock:
            taken, self._counts = self._counts, Counter()
        return taken

    def put_back(self, taken: Counter[tuple[str, str]]) -> None:
        """Add numbers that could not be written down."""
        with self._lock:
            if len(self._counts) < _MOST:
                self._counts.update(taken)


def measured(of: str, ms: Sequence[float]) -> Counter[str]:
    """Return what is to be counted for measured times of `of`: "wait", "duration"."""
    counted = buckets(of, ms)
    counted[f"{of}_ms"] = round(sum(ms))
    return counted


@dataclass(slots=True)
class Pulse:
    """When the threads that do the work last did what; `time.monotonic()`, or None.

    Attributes:
        looked: the watch looked for due rows.
        drained: a row was claimed, or a claim ended.
        swept: the clock was heard.
    """

    looked: float | None = None
    drained: float | None = None
    swept: float | None = None


tallies, pulse = Tallies(), Pulse()
