"""Heartbeats: which processes there are, and whether they really look and drain."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from . import operations
from .instants import instant
from .operations import Heartbeat, inserted, upsert

#: A process that was not seen for so long is taken for dead.
DEAD_AFTER = timedelta(seconds=20)

_FORGOTTEN_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Beat:
    """What a process says of itself.

    Attributes:
        id: the same for as long as the process lives, at most 64 characters.
        looked, drained: how long ago it last did; None: not yet.
        held: the labels that it has handlers for, and how many rows of each it is at.
    """

    id: str
    host: str
    pid: int
    kind: str
    threads: int
    age: timedelta
    looked: timedelta | None
    drained: timedelta | None
    held: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Process:
    """A process as the others see it; instants by the database's clock.

    Attributes:
        alive: it was seen within `DEAD_AFTER`.
        looking: it is alive, and has looked for due rows within `looks_within`.
        held: as in `Beat`.
    """

    id: str
    host: str
    pid: int
    kind: str
    threads: int
    started: datetime
    seen: datetime
    looked: datetime | None
    drained: datetime | None
    held: dict[str, int]
    alive: bool
    looking: bool


def beat(one: Beat) -> None:
    """Write a heartbeat; it replaces the process's last one."""
    now = operations.now()
    row = {
        Heartbeat.id: one.id,
        Heartbeat.host: one.host[:255],
        Heartbeat.pid: one.pid,
        Heartbeat.kind: one.kind,
        Heartbeat.threads: one.threads,
        Heartbeat.flags: json.dumps(dict(one.held)),
        Heartbeat.started: _before(now, one.age),
        Heartbeat.seen: now,
        Heartbeat.looked: _before(now, one.looked),
        Heartbeat.drained: _before(now, one.drained),
    }
    changing = set(row) - {Heartbeat.id, Heartbeat.started}
    upsert(Heartbeat, [row], {field: inserted(field) for field in changing})


def leave(id: str) -> None:
    """The process ends as it should: it is nobody's any more."""
    Heartbeat.delete().where(Heartbeat.id == id).execute()


def forget() -> int:
    """Delete processes that were not seen for a day. Returns how many."""
    then = _before(operations.now(), _FORGOTTEN_AFTER)
    return int(Heartbeat.delete().where(Heartbeat.seen < then).execute())


def processes(*, looks_within: timedelta = DEAD_AFTER) -> list[Process]:
    """Return the processes of the last day, those last seen first."""
    now = operations.now()
    query = Heartbeat.select().order_by(Heartbeat.seen.desc(), Heartbeat.id)
    return [_process(row, now, looks_within) for row in query]


def _process(row: Heartbeat, now: int, looks_within: timedelta) -> Process:
    alive = now - row.seen <= DEAD_AFTER / timedelta(milliseconds=1)
    looked = row.looked is not None and _ms(looks_within) >= now - row.looked
    return Process(
        id=row.id,
        host=row.host,
        pid=row.pid,
        kind=row.kind,
        threads=row.threads,
        started=instant(row.started),
        seen=instant(row.seen),
        looked=None if row.looked is None else instant(row.looked),
        drained=None if row.drained is None else instant(row.drained),
        held=json.loads(row.flags),
        alive=alive,
        looking=alive and looked,
    )


def _before(now: int, age: timedelta | None) -> int | None:
    return None if age is None else now - _ms(age)


def _ms(span: timedelta) -> int:
    return round(span / timedelta(milliseconds=1))
