"""A breaker: what has just failed is left alone for a while."""

from __future__ import annotations

import time

_FIRST_SECONDS = 0.25
_LONGEST_SECONDS = 5.0


class Breaker:
    """Open after a failure, so that nobody waits for the next one: for a moment at
    first, twice as long with each failure in a row."""

    def __init__(self) -> None:
        self._until = 0.0
        self._seconds = 0.0

    @property
    def is_open(self) -> bool:
        """Whether nothing is to be tried now."""
        return time.monotonic() < self._until

    def failed(self) -> float:
        """Learn of a failure; return for how many seconds the breaker is open."""
        self._seconds = min(self._seconds * 2 or _FIRST_SECONDS, _LONGEST_SECONDS)
        self._until = time.monotonic() + self._seconds
        return self._seconds

    def worked(self) -> None:
        """Learn that all is well."""
        self._until = self._seconds = 0.0
