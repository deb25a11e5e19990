"""The states of a row: as conditions for a query, and of a row that was read."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from peewee import Select

from .columns import NEVER
from .flags import PendingFlag


class State(StrEnum):
    """The states of a row; docs/flow.md draws them."""

    IDLE = "idle"
    DUE = "due"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    RETRYING = "retrying"
    PARKED = "parked"


def condition(flag: PendingFlag, state: State, now: Any = None) -> Any:
    """Return the condition that a row is in `state`.

    Args:
        now: ms; None: when the statement runs.
    """
    now = flag.dialect.now if now is None else now
    pending = flag.dialect.is_set(flag)
    held, tried = flag.until > now, flag.attempts > 0
    conditions = {
        State.IDLE: ~flag & ~held,
        State.DUE: past_due(flag, now) & ~held,
        State.SCHEDULED: due_later(flag, now) & ~held & ~tried,
        State.RUNNING: pending & held & (flag.due < NEVER),
        State.RETRYING: due_later(flag, now) & ~held & tried,
        State.PARKED: never_due(flag),
    }
    return conditions[state]


def now_of(flag: PendingFlag) -> int:
    """Return the clock of the flag's database, ms."""
    ((now,),) = Select((), (flag.dialect.now,)).bind(flag.database).tuples()
    return int(now)


# The three stretches of the index. Each is a range, never an equality: where many
# rows have the one due time, PostgreSQL would not see that the index is in order,
# and read the table from its start.


def past_due(flag: PendingFlag, now: Any) -> Any:
    """Return the condition that a row is pending, and due by `now`, ms."""
    return flag.dialect.is_set(flag) & (flag.due <= now)


def due_later(flag: PendingFlag, now: Any) -> Any:
    """Return the condition that a row is pending, and due after `now`, ms."""
    return flag.dialect.is_set(flag) & (flag.due > now) & (flag.due < NEVER)


def never_due(flag: PendingFlag) -> Any:
    """Return the condition that a row is parked."""
    return flag.dialect.is_set(flag) & (flag.due >= NEVER)


def state_of(pending: bool, own: dict[str, Any], now: int) -> State:
    """Return the state of a row that was read, from its companions by suffix."""
    if pending and own["due"] >= NEVER:
        return State.PARKED
    if own["until"] > now:
        return State.RUNNING
    if not pending:
        return State.IDLE
    if own["due"] <= now:
        return State.DUE
    return State.RETRYING if own["attempts"] > 0 else State.SCHEDULED
