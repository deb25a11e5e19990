"""Tallies: how often what happened, a minute and in all.

Many processes add to the same numbers; a total only grows, for as long as its table
lives. A measured time is tallied in buckets: how many took at most so many ms.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from . import operations
from .instants import instant, milliseconds
from .operations import Count, inserted, upsert

#: What is tallied of a flag: label and name, to how often.
Tally = Mapping[tuple[str, str], int]

#: Upper bounds of the buckets, in ms; above them is one more, "inf".
BUCKETS = (
    *(5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000),
    *(120_000, 300_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000),
    *(43_200_000, 86_400_000),
)

_BOUNDS = (*map(str, BUCKETS), "inf")

_ALL_TIMES = 0  # the minute of the totals
_MINUTE_MS = 60_000
_KEPT_MINUTES = 24 * 60
_SWEPT = "swept_at"


@dataclass(frozen=True, slots=True)
class Histogram:
    """Measured times.

    Attributes:
        counts: how many in each bucket of `BUCKETS`, and last how many above all.
        sum: of all times.
    """

    counts: tuple[int, ...]
    sum: timedelta

    @property
    def total(self) -> int:
        """How many times were measured."""
        return sum(self.counts)

    def quantile(self, share: float) -> timedelta | None:
        """Return the time that `share` of all (0 to 1) did not exceed, about: within
        its bucket the times are taken to be spread evenly. None: nothing measured."""
        rank, below = share * self.total, 0
        for (lower, upper), count in zip(_bounds(), self.counts, strict=True):
            if count and below + count >= rank:
                part = (rank - below) / count
                return timedelta(milliseconds=lower + (upper - lower) * part)
            below += count
        return None


@dataclass(frozen=True, slots=True)
class Minute:
    """What happened to a flag in one minute, and how it stood.

    Attributes:
        start: of the minute.
        counts: by name; what did not happen is 0. Samples such as "due" and
            "parked" too, which may be missing.
    """

    start: datetime
    counts: Counter[str]

    def histogram(self, of: str) -> Histogram:
        """Return the times of `of`: "wait" (mark to finish) or "duration"."""
        return histogram(self.counts, of)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast it goes: over the last few minutes.

    Attributes:
        finished, failed: a minute.
        wait: from the mark (of a delayed one: from its due time) to the finish.
        duration: of the handler's calls.
    """

    finished: float
    failed: float
    wait: Histogram
    duration: Histogram


def buckets(of: str, ms: Iterable[float]) -> Counter[str]:
    """Return how many of the measured times belong to each bucket, by its name."""
    counted = Counter([bisect_left(BUCKETS, one) for one in ms])
    return Counter({f"{of}:{_BOUNDS[nth]}": n for nth, n in counted.items()})


def histogram(counts: Mapping[str, int], of: str) -> Histogram:
    """Return the times of `of`, "wait" or "duration", from counts by name."""
    measured = tuple(counts.get(f"{of}:{bound}", 0) for bound in _BOUNDS)
    return Histogram(measured, timedelta(milliseconds=counts.get(f"{of}_ms", 0)))


def add(tally: Tally) -> None:
    """Add what happened to this minute's numbers and to the totals."""
    if not tally:
        return
    minutes = (_ALL_TIMES, operations.now() // _MINUTE_MS)
    rows = [
        _row(label, minute, name, n)
        for (label, name), n in tally.items()
        for minute in minutes
    ]
    upsert(Count, rows, {Count.n: Count.n + inserted(Count.n)})


def sampled(label: str) -> bool:
    """Say whether this minute has a sample of `label` already."""
    minute = operations.now() // _MINUTE_MS
    return bool(_of([label], minute).where(Count.name == "due").exists())


def add_sample(label: str, sample: Mapping[str, int]) -> None:
    """Note how `label` stands in this minute; of two samples the last one counts."""
    minute = operations.now() // _MINUTE_MS
    rows = [_row(label, minute, name, n) for name, n in sample.items()]
    upsert(Count, rows, {Count.n: inserted(Count.n)})


def note_sweep(*, age: timedelta) -> None:
    """Note that the clock was heard, so long ago."""
    moment = operations.now() - round(age / timedelta(milliseconds=1))
    later = operations.dialect().greater(Count.n, inserted(Count.n))
    row = _row(operations.ALL, _ALL_TIMES, _SWEPT, moment)
    upsert(Count, [row], {Count.n: later})


def last_sweep() -> datetime | None:
    """Return when a worker last heard the clock; None: never."""
    row = _of([operations.ALL], _ALL_TIMES).where(Count.name == _SWEPT).first()
    return None if row is None else instant(row.n)


def totals() -> dict[str, Counter[str]]:
    """Return how often what happened, ever: by label (`ALL` for what concerns no
    flag), then by name."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for row in Count.select().where(Count.minute == _ALL_TIMES, Count.name != _SWEPT):
        found[row.flag][row.name] = row.n
    return dict(found)


def minutes(label: str, *, since: datetime) -> list[Minute]:
    """Return the minutes of `label` in which anything was noted, the oldest first.

    Args:
        since: aware; at most 24 hours are kept.
    """
    found: dict[int, Counter[str]] = defaultdict(Counter)
    first = max(milliseconds(since) // _MINUTE_MS, 1)
    for row in _of([label], first, onwards=True):
        found[row.minute][row.name] = row.n
    return [
        Minute(instant(minute * _MINUTE_MS), counts)
        for minute, counts in sorted(found.items())
    ]


def paces(labels: Iterable[str], *, over: int = 5) -> dict[str, Pace]:
    """Return the pace of each of `labels`.

    Args:
        over: full minutes, beside the one under way; 1 or more.
    """
    now = operations.now()
    first = now // _MINUTE_MS - over
    wanted = list(labels)
    found: dict[str, Counter[str]] = {label: Counter() for label in wanted}
    for row in _of(wanted, first, onwards=True):
        found[row.flag][row.name] += row.n
    elapsed = now / _MINUTE_MS - first
    return {label: _pace(counts, elapsed) for label, counts in found.items()}


def prune() -> int:
    """Delete what is older than 24 hours, but for the totals. Returns how many rows."""
    last = operations.now() // _MINUTE_MS - _KEPT_MINUTES
    old = (Count.minute > _ALL_TIMES) & (Count.minute < last)
    return int(Count.delete().where(old).execute())


def _pace(counts: Counter[str], elapsed: float) -> Pace:
    return Pace(
        finished=counts["finished"] / elapsed,
        failed=counts["failed"] / elapsed,
        wait=histogram(counts, "wait"),
        duration=histogram(counts, "duration"),
    )


def _of(labels: list[str], minute: int, *, onwards: bool = False) -> Any:
    when = Count.minute >= minute if onwards else Count.minute == minute
    return Count.select().where(Count.flag.in_(labels), when)


def _row(label: str, minute: int, name: str, n: int) -> dict[object, object]:
    return {
        Count.flag: label[:255],
        Count.minute: minute,
        Count.name: name,
        Count.n: n,
    }


def _bounds() -> list[tuple[int, int]]:
    last = BUCKETS[-1]
    return [*zip((0, *BUCKETS), (*BUCKETS, last), strict=True)]
