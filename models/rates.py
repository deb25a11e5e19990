"""Rates: how many calls may begin in any stretch of time of a given length.

Kept as counts of calls, each with the end of the moment in which they began; a count
is in force until that end is a whole period ago. Times are ms by the database's clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

_PERIODS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_MOMENTS = 100  # in a period: so many counts are kept at most, and one more

#: Counts of calls, each after the end of its moment, ms; the oldest first.
Begun = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `calls` begin in any stretch of time as long as `period`, wherever it
    begins. What began comes free again after a period and at most a hundredth more."""

    calls: int
    period: timedelta

    def free(self, begun: Begun, now: int) -> int:
        """Return how many calls may begin now."""
        return max(0, self.calls - sum(n for _, n in self.in_force(begun, now)))

    def wait(self, begun: Begun, now: int) -> int:
        """Return in how many ms the next of what has begun comes free."""
        in_force = self.in_force(begun, now)
        return max(1, in_force[0][0] + self._ms - now) if in_force else 1

    def after(self, begun: Begun, now: int, calls: int) -> Begun:
        """Return what has begun once `calls` begin now."""
        counts = dict(self.in_force(begun, now))
        end = now - now % self._moment + self._moment
        counts[end] = counts.get(end, 0) + calls
        return sorted(counts.items())

    def is_ahead(self, begun: Begun, now: int) -> bool:
        """Say whether something seems to begin later than now: the clock was set back,
        or the period was longer. It counts from now on, once `in_force` is kept."""
        return any(end > now + self._moment for end, _ in begun)

    def in_force(self, begun: Begun, now: int) -> Begun:
        """Return what still counts. If the clock was set back, as if it began now."""
        latest = now + self._moment
        counts: dict[int, int] = {}
        for end, n in begun:
            if end + self._ms > now:
                counts[min(end, latest)] = counts.get(min(end, latest), 0) + n
        return sorted(counts.items())

    @property
    def _ms(self) -> int:
        return self.period // timedelta(milliseconds=1)

    @property
    def _moment(self) -> int:
        return max(1, self._ms // _MOMENTS)


def rate_of(text: str) -> Rate:
    """Return the rate that `text` says: `10/s`, `100/m`, `1000/h` or `5000/d`.

    Raises:
        TypeError, ValueError: it says none.
    """
    if not isinstance(text, str):
        raise TypeError(f"rate is a text such as '100/m', not {text!r}")
    found = re.fullmatch(r"(\d{1,9})/([smhd])", text)
    if not found or not int(found[1]):
        raise ValueError(f"{text!r} is no rate: write 10/s, 100/m, 1000/h or 5000/d")
    return Rate(int(found[1]), _PERIODS[found[2]])
