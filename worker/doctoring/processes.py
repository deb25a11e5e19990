"""What runs: workers, the clock, handlers; and what is paused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pendulum

from models import PendingFlag
from models.counting import Numbers
from models.heartbeats import Process
from models.inspecting import Finding, Level
from models.operations import making

from ..choosing import BELLS
from ..handlers import all_handlers
from ..overview import Overview, looks_within
from ..settings import settings

_AT_THEM_LONG = timedelta(minutes=10)
_TICKS = 3


def examined(
    flags: list[PendingFlag], found: Overview, waiting: list[str]
) -> Iterator[Finding]:
    if found.missing:
        make = "; ".join(making(found.missing))
        yield Finding(
            Level.WARNING,
            "tables of operating",
            f"{', '.join(found.missing)} are missing: no pauses, heartbeats, numbers;"
            " whether workers and a clock run is not known",
            "`pending migrate`" if waiting else make,
        )
        yield from _handlers(flags, found, set())
        return
    yield from _workers(found.processes)
    yield from _clock(found)
    live = {label for one in found.processes if one.looking for label in one.held}
    yield from _handlers(flags, found, live)
    yield from _unknown(flags, live)
    yield from _pauses(found)


def _workers(processes: list[Process]) -> Iterator[Finding]:
    for one in processes:
        if one.alive:
            yield from _idle_or_full(one)
    looking = [one for one in processes if one.looking]
    if looking:
        threads = sum(one.threads for one in looking)
        yield Finding(Level.OK, "workers", f"{len(looking)} alive, {threads} threads")
    else:
        yield Finding(
            Level.FAILURE, "workers", "none is alive", "start `dramatiq worker`"
        )


def _idle_or_full(one: Process) -> Iterator[Finding]:
    name = f"process {one.pid} on {one.host}"
    if not one.looking:
        within = looks_within().total_seconds()
        yield Finding(
            Level.FAILURE,
            "workers",
            f"{name} lives, but has not looked for due rows for {within:.0f} s: it is"
            " stuck",
            "see its log, and restart it",
        )
    elif _is_full(one):
        minutes = _AT_THEM_LONG.total_seconds() / 60
        yield Finding(
            Level.WARNING,
            "workers",
            f"all {one.threads} threads of {name} have been at the same rows for"
            f" {minutes:.0f} min",
            "`pending list … --state running` shows them; a time_limit ends such",
        )


def _is_full(one: Process) -> bool:
    busy = 0 < one.threads <= sum(one.held.values())
    return busy and one.drained is not None and one.seen - one.drained > _AT_THEM_LONG


def _clock(found: Overview) -> Iterator[Finding]:
    swept = found.last_sweep
    if swept is None:
        text = "no worker has heard a clock yet"
    else:
        seconds = (found.at - swept).total_seconds()
        text = f"last heard {seconds:.0f} s ago"
    if swept is None or _ticks_since(swept, found.at) > _TICKS:
        yield Finding(
            Level.WARNING,
            "clock",
            f"{text}; due rows wait for each worker's own look",
            "start `periodiq worker`",
        )
    else:
        yield Finding(Level.OK, "clock", text)


def _ticks_since(last: datetime, now: datetime) -> int:
    """Return how many ticks of the clock are past since `last`; 4 may be more."""
    moment, ticks = pendulum.instance(last), 0
    while ticks <= _TICKS:
        moment = settings.sweep_cron.next_valid_date(moment)
        if moment > now:
            break
        ticks += 1
    return ticks


def _handlers(
    flags: list[PendingFlag], found: Overview, live: set[str]
) -> Iterator[Finding]:
    own = {handler.flag.label for handler in all_handlers()}
    standing = {one.label: one.numbers for one in found.flags}
    for flag in flags:
        if flag.label in live or not _has_work(standing.get(flag.label)):
            continue
        if flag.label in own and not live:
            continue  # then the workers are what is wrong
        where = "in any live worker" if live else "here"
        queue = "" if flag.queue == BELLS else f" -Q {flag.queue}"
        yield Finding(
            Level.FAILURE,
            flag.label,
            f"rows are pending, and there is no handler for them {where}"
            f" that listens to the queue {flag.queue}",
            f"start workers with its module: `dramatiq worker shop.jobs{queue}`",
        )


def _unknown(flags: list[PendingFlag], live: set[str]) -> Iterator[Finding]:
    """Else a parked row of such a flag is not seen here, and all seems to be well."""
    unknown = sorted(live - {flag.label for flag in flags})
    if unknown:
        yield Finding(
            Level.WARNING,
            "modules",
            f"live workers do the work of {', '.join(unknown)}, not known here",
            "name its module in PENDING_MODULES here as well",
        )


def _has_work(found: Numbers | None) -> bool:
    return bool(found and (found.due.n or found.scheduled.n or found.retrying.n))


def _pauses(found: Overview) -> Iterator[Finding]:
    pauses = {one.paused.flag: one.paused for one in found.flags if one.paused}
    for label, pause in pauses.items():
        yield Finding(
            Level.WARNING,
            "everything" if label == "*" else label,
            f"is paused by {pause.by}: {pause.reason or 'no reason given'}",
            f"`pending resume {'--all' if label == '*' else label}`",
        )
