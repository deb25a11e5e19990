"""Simulates a flag under load, in ticks of 10 ms: what waits, and for how long.

    python bench/simulation.py [--marks 10000] [--threads 400] [--handler-ms 20]
        [--cores 5] [--mark-us 290] [--run-us 28] [--outage 0] [--seconds 60]

Marks come at random. The database works so many microseconds for each: first for
marks, which are the application's, then for claims and finishes. Threads handle what
was claimed. For the first OUTAGE seconds there is no worker. docs/scaling.md says
what follows, and where the costs were measured.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields

_TICK = 0.01  # s
_PATIENCE = 20  # so many times as long as marks come, it is followed


@dataclass(frozen=True)
class House:
    """What is simulated.

    Attributes:
        marks: of single rows, a second.
        threads: that handle rows, over all hosts.
        handler_ms: what a call of the handler takes.
        cores: of the database's, for this flag.
        mark_us, run_us: what a core works for a mark; for claim and finish of a row.
        outage: s without any worker, at the beginning.
        seconds: how long marks come.
    """

    marks: float = 10_000
    threads: float = 400
    handler_ms: float = 20
    cores: float = 5
    mark_us: float = 290
    run_us: float = 28
    outage: float = 0
    seconds: float = 60


@dataclass(frozen=True)
class Course:
    """How it went.

    Attributes:
        done: rows that were handled.
        left: rows that were pending when the last mark had come.
        most: the most that were pending at once.
        recovery: s from the outage's end until nothing of it waited; None: never.
        p50, p99: s from mark to finish.
        database: the share of the database's time in use while marks came.
    """

    done: int
    left: int
    most: int
    recovery: float | None
    p50: float
    p99: float
    database: float


class Line:
    """What is pending, the longest waiting first."""

    def __init__(self) -> None:
        self.pending = self.done = self.most = 0.0
        self.waits: list[tuple[float, float]] = []  # how long, and how many rows
        self._marked: deque[tuple[float, float]] = deque()  # when, and how many rows

    @property
    def first(self) -> float:
        """When the longest waiting was marked; for ever from now, if there is none."""
        return self._marked[0][0] if self._marked else math.inf

    def add(self, now: float, rows: float) -> None:
        if rows:
            self._marked.append((now, rows))
        self.pending += rows
        self.most = max(self.most, self.pending)

    def take(self, rows: float, *, until: float) -> None:
        """Take the longest waiting; they are done at `until`."""
        self.pending -= rows
        self.done += rows
        while rows > 0 and self._marked:
            since, count = self._marked.popleft()
            some = min(rows, count)
            self.waits.append((until - since, some))
            rows -= some
            if count > some:
                self._marked.appendleft((since, count - some))


def simulated(house: House, *, seed: int = 1) -> Course:
    """Follow the house until all is done, or the patience is over."""
    coming, line = arrivals(random.Random(seed), house.marks), Line()
    mark, run, handler = _seconds(house)
    time, hands = house.cores * _TICK, house.threads * _TICK / handler
    left = spent = 0.0
    recovery = None
    for tick in range(int(house.seconds * _PATIENCE / _TICK)):
        now = tick * _TICK
        is_marked = now < house.seconds
        marked = min(next(coming), time / mark) if is_marked else 0.0
        line.add(now, marked)
        works = now >= house.outage
        turn = min((time - marked * mark) / run, hands, line.pending) if works else 0.0
        line.take(turn, until=now + handler)
        if is_marked:
            left, spent = line.pending, spent + marked * mark + turn * run
        if recovery is None and works and line.first >= house.outage:
            recovery = now - house.outage
        if not is_marked and not line.pending:
            break
    share = spent / (house.cores * house.seconds)
    waits = quantiles(line.waits)
    return Course(
        round(line.done), round(left), round(line.most), recovery, *waits, share
    )


def _seconds(house: House) -> tuple[float, float, float]:
    """Return how long a mark, a run and a handler take."""
    micro, milli = 1e-6, 1e-3
    return house.mark_us * micro, house.run_us * micro, house.handler_ms * milli


def arrivals(chance: random.Random, rate: float) -> Iterator[int]:
    """Yield how many marks come in each tick, at random times."""
    following = chance.expovariate(rate)
    for tick in itertools.count(1):
        count = 0
        while following < tick * _TICK:
            count += 1
            following += chance.expovariate(rate)
        yield count


def quantiles(waits: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the median and the 99th percentile of what was waited."""
    total, passed, found = sum(count for _, count in waits), 0.0, [0.0, 0.0]
    for wait, count in sorted(waits):
        for nth, share in enumerate((0.5, 0.99)):
            if passed < total * share <= passed + count:
                found[nth] = wait
        passed += count
    return found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for field in fields(House):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=float, default=field.default)
    house = House(**vars(parser.parse_args()))
    course = simulated(house)
    print(house)
    for field in fields(Course):
        value = getattr(course, field.name)
        print(f"{field.name:10}", value if value is None else f"{value:,.2f}")


if __name__ == "__main__":
    main()
