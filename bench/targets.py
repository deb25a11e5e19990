"""What this project wants to reach, and whether it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import lineup
from lineup import OURS, PEERS, PGQUEUER, RAW_BATCHES, RAW_CLAIMS, RAW_JOBS
from results import Results
from system import Kind

DRAIN, ENQUEUE, BULK = "drain /s", "enqueue /s", "bulk enqueue /s"


@dataclass(frozen=True)
class Target:
    """A bound on a figure, or on its ratio to somebody else's.

    Args:
        name: of the measure, in the table.
        kind, measure: whose figure.
        against: its ratio to the best of theirs is meant, not the figure.
        base: their measure, if not the same.
        least, most: the bound; one of them.
    """

    name: str
    kind: Kind
    measure: str
    against: tuple[Kind, ...] = ()
    base: str = ""
    least: float | None = None
    most: float | None = None

    def figure(self, results: Results) -> float | None:
        return results.median(self.kind, self.measure)

    def ratio(self, results: Results) -> float | None:
        """Return how many times theirs it is, or None."""
        base = self.base or self.measure
        theirs = [results.median(kind, base) for kind in self.against]
        known = [figure for figure in theirs if figure]
        figure = self.figure(results)
        if not known or figure is None:
            return None
        best: Callable[[list[float]], float] = max if self.least else min
        return figure / best(known)

    def met(self, results: Results) -> bool | None:
        """Say whether the bound is kept; None if that was not measured."""
        value = self.ratio(results) if self.against else self.figure(results)
        if value is None:
            return None
        return value >= self.least if self.least else value <= (self.most or 0)

    @property
    def bound(self) -> str:
        sign, number = ("≥", self.least) if self.least else ("≤", self.most)
        if not self.against:
            return f"{sign} {number:,g}"
        whom = self.against[0].name if len(self.against) == 1 else "the best peer"
        if len(self.against) == len(PEERS) - 1:
            whom = "the best peer but Huey"
        return f"{sign} {number:g} × {self.base or whom}"


_BUT_HUEY = tuple(kind for kind in PEERS if kind is not lineup.HUEY)
_QUEUE = "messages in the queue"
_SWEEP = "sweep with nothing due, {} ms".format

TARGETS = (
    Target("drain", OURS, DRAIN, (PGQUEUER,), least=4),
    Target("drain", OURS, DRAIN, (lineup.HUEY,), least=4),
    Target("drain", OURS, DRAIN, (RAW_CLAIMS,), least=0.5),
    Target("drain, atomic=True", lineup.ATOMIC, DRAIN, (PGQUEUER,), least=2),
    Target("drain, handler commits", lineup.COMMITTING, DRAIN, (PGQUEUER,), least=1),
    Target("drain, handler commits", lineup.COMMITTING, DRAIN, (RAW_JOBS,), least=0.8),
    Target("drain, batch=500", lineup.BATCHING, DRAIN, (RAW_BATCHES,), least=0.4),
    Target("drain, async, 50 ms each", lineup.AWAITING, DRAIN, least=1000),
    Target("drain, SQLite, atomic=True", lineup.SQLITE, DRAIN, least=3000),
    Target("enqueue, one a transaction", OURS, ENQUEUE, PEERS, least=1),
    Target(
        "enqueue, one a transaction",
        *(OURS, ENQUEUE, (OURS,)),
        base="bare INSERT /s",
        least=0.85,
    ),
    Target("bulk enqueue", OURS, BULK, PEERS, least=3),
    Target("latency p50 ms", OURS, "p50 ms", most=2),
    Target("latency p99 ms", OURS, "p99 ms", most=8),
    Target("latency p50 ms", OURS, "p50 ms", _BUT_HUEY, most=1),
    Target("latency p50 ms", OURS, "p50 ms", (lineup.HUEY,), most=1),
    Target("idle, CPU s a minute", OURS, "idle CPU s/min", most=0.5),
    Target("idle, Redis commands/s", OURS, "idle Redis commands/s", most=20),
    Target(_SWEEP("10 rows"), OURS, _SWEEP("10 rows"), most=1),
    Target(_SWEEP("all rows"), OURS, _SWEEP("all rows"), most=1),
    Target("messages, workers down", OURS, _QUEUE, most=3),
    Target(
        "memory, all done MB",
        *(OURS, "memory, all done MB", (OURS,)),
        base="memory, a quarter done MB",
        most=1.1,
    ),
)
