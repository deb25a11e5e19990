"""How all flags stand: what `pending status`, the dashboard and the metrics show.

A flag whose table cannot be read says so and spoils nothing for the others; and where
the tables of operating are missing, what they would tell is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import peewee

from models import PendingFlag
from models.connection import borrowed, connected
from models.counting import Numbers, numbers
from models.finding import flags, lent_flags
from models.heartbeats import Process, processes
from models.instants import instant
from models.operations import missing_tables, now, the_database
from models.pausing import ALL, Paused, pauses
from models.states import State
from models.tallies import Pace, last_sweep, paces

from .failures import headline, remedy
from .handlers import all_handlers, handler_named
from .settings import settings

_PENDING = [state for state in State if state is not State.IDLE]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a flag stands.

    Attributes:
        numbers: None if its table cannot be read; then `problem` says why.
        pace: over the last five minutes; None without the tables of operating.
        workers: how many live processes have a handler for it and look.
        handled: this process has a handler for it.
        paused: the pause that it is under, be it of all flags; or None.
    """

    label: str
    numbers: Numbers | None
    problem: str
    pace: Pace | None
    workers: int
    handled: bool
    paused: Paused | None


@dataclass(frozen=True, slots=True)
class Overview:
    """How all flags stand at one moment, by the database's clock.

    Attributes:
        last_sweep: when a worker last heard the clock; None: never, or not known.
        processes: of the last day, those last seen first.
        paused: the pause of all flags, or None.
        missing: names of the tables that `pending migrate` would make.
    """

    at: datetime
    flags: list[Standing]
    processes: list[Process]
    last_sweep: datetime | None
    paused: Paused | None
    missing: list[str]

    @property
    def workers(self) -> int:
        """How many live worker processes look for due rows."""
        return sum(process.looking for process in self.processes)


def known_flags() -> list[PendingFlag]:
    """Return the flags of all imported models, and those that have a handler. A flag
    of a model that others derive from counts if it has a table."""
    by_label = {flag.label: flag for flag in lent_flags() if _has_table(flag)}
    by_label |= {flag.label: flag for flag in flags()}
    by_label |= {handler.flag.label: handler.flag for handler in all_handlers()}
    return [by_label[label] for label in sorted(by_label)]


def overview(of: Iterable[PendingFlag] | None = None) -> Overview:
    """Return how the flags `of` (default: `known_flags()`) stand.

    Raises:
        peewee.PeeweeException: the default database does not answer.
    """
    wanted = known_flags() if of is None else list(of)
    with connected(the_database()):
        missing, moment = missing_tables(), instant(now())
        kept = not missing
        running = processes(looks_within=looks_within()) if kept else []
        in_force = {one.flag: one for one in pauses()} if kept else {}
        pace = paces([flag.label for flag in wanted]) if kept else {}
        swept = last_sweep() if kept else None
    standings = [
        _standing(flag, pace.get(flag.label), running, in_force) for flag in wanted
    ]
    return Overview(moment, standings, running, swept, in_force.get(ALL), missing)


def _has_table(flag: PendingFlag) -> bool:
    try:
        with borrowed(flag.database):
            return bool(flag.model.table_exists())
    except (peewee.DatabaseError, peewee.InterfaceError):
        return False


def looks_within() -> timedelta:
    """Return how old a worker's last look may be: three looks, and 15 s at least."""
    return max(3 * settings.sweep_every, timedelta(seconds=15))


def to_json(found: Overview) -> dict[str, Any]:
    """Return the overview as JSON: times in seconds, and which numbers are capped."""
    return {
        "at": found.at,
        "flags": [_flag_json(one) for one in found.flags],
        "workers": found.workers,
        "processes": [
            {
                "host": one.host,
                "pid": one.pid,
                "kind": one.kind,
                "threads": one.threads,
                "started": one.started,
                "seen": one.seen,
                "looked": one.looked,
                "drained": one.drained,
                "held": sum(one.held.values()),
                "flags": sorted(one.held),
                "alive": one.alive,
                "looking": one.looking,
            }
            for one in found.processes
        ],
        "last_sweep": found.last_sweep,
        "paused": found.paused is not None,
        "missing_tables": found.missing,
    }


def _standing(
    flag: PendingFlag,
    pace: Pace | None,
    running: list[Process],
    in_force: dict[str, Paused],
) -> Standing:
    found, problem = _numbers(flag)
    label = flag.label
    return Standing(
        label=label,
        numbers=found,
        problem=problem,
        pace=pace,
        workers=sum(one.looking and label in one.held for one in running),
        handled=handler_named(label) is not None,
        paused=in_force.get(label) or in_force.get(ALL),
    )


def _numbers(flag: PendingFlag) -> tuple[Numbers | None, str]:
    try:
        with connected(flag.database):
            return numbers(flag), ""
    except (peewee.DatabaseError, peewee.InterfaceError) as error:
        return None, headline(error) + remedy(error)


def _flag_json(one: Standing) -> dict[str, Any]:
    numbers, pace = one.numbers, one.pace
    amounts = {s: numbers.of(s) if numbers else None for s in _PENDING}
    return {
        "flag": one.label,
        **{state.value: amount and amount.n for state, amount in amounts.items()},
        "capped": [s.value for s, amount in amounts.items() if amount and amount.more],
        "oldest_due_seconds": numbers and numbers.oldest,
        "finished_per_minute": pace and round(pace.finished, 3),
        "failed_per_minute": pace and round(pace.failed, 3),
        "wait_p50_seconds": pace and pace.wait.quantile(0.5),
        "wait_p95_seconds": pace and pace.wait.quantile(0.95),
        "workers": one.workers,
        "handler": one.handled,
        "paused": one.paused
        and {
            "flag": one.paused.flag,
            "until": one.paused.until,
            "reason": one.paused.reason,
            "by": one.paused.by,
            "at": one.paused.at,
        },
        "problem": one.problem or None,
    }
