"""How a row stands, asked for in a test; and time that passes without a wait."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from peewee import ModelUpdate

from models import NEVER, PendingFlag, PendingModel
from models.connection import borrowed
from models.dialects import key_values
from models.finding import flags as all_flags
from models.finding import key_text
from models.instants import instant
from models.listing import Row, shown
from models.marking import flag_of
from models.states import State, now_of

from ..wording import span
from .stage import is_there

_PENDING = {State.DUE, State.SCHEDULED, State.RETRYING, State.RUNNING}


def assert_pending(
    row: PendingModel,
    flag: PendingFlag | str,
    *,
    attempts: int | None = None,
    error: str | None = None,
) -> None:
    """Assert that a worker will do the flag's work for `row`, now or later.

    Args:
        attempts: that were begun and failed, of this mark.
        error: a part of the last one's error.
    """
    __tracebackhide__ = True
    wanted = "pending"
    if attempts is not None:
        wanted += f" after {attempts} attempts"
    found, words = _look(row, flag)
    _check(found, words, _PENDING, wanted, error)
    if attempts is not None and found and found.attempts != attempts:
        raise AssertionError(f"not {wanted}: {words}")


def assert_parked(
    row: PendingModel, flag: PendingFlag | str, *, error: str | None = None
) -> None:
    """Assert that the flag's work for `row` was given up: it waits for a person.

    Args:
        error: a part of the last attempt's error.
    """
    __tracebackhide__ = True
    _check(*_look(row, flag), {State.PARKED}, "parked", error)


def assert_idle(row: PendingModel, flag: PendingFlag | str) -> None:
    """Assert that nothing is to be done for `row`: the flag is false."""
    __tracebackhide__ = True
    _check(*_look(row, flag), {State.IDLE}, "idle", None)


def due_in(length: timedelta, *flags: PendingFlag) -> None:
    """Let the time pass: what is due within `length` from now becomes due.

    So do rows that are to be tried again, and leases of workers that died. The clock
    stays: all these times move into the past. Parked rows stay parked.

    Args:
        length: not below zero.
        flags: default: all that have a table.
    """
    if length < timedelta(0):
        raise ValueError(f"length is negative: {length}")
    milliseconds = round(length / timedelta(milliseconds=1))
    for flag in flags or [one for one in all_flags() if is_there(one)]:
        pending = flag.dialect.is_set(flag) & (flag.due < NEVER)
        with borrowed(flag.database):
            _move(flag, flag.due, milliseconds, pending)
            _move(flag, flag.until, milliseconds, flag.lease.is_null(False))


def _move(flag: PendingFlag, time: Any, milliseconds: int, where: Any) -> None:
    past = flag.dialect.greater(time - milliseconds, 0)
    ModelUpdate(flag.model, {time: past}).where(where).execute()


def _look(row: PendingModel, flag: PendingFlag | str) -> tuple[Row | None, str]:
    """Return the row as it is in the database, and that in words."""
    found = flag_of(row, flag)
    key = key_values(row)
    with borrowed(found.database):
        now, seen = instant(now_of(found)), shown(found, key)
    name = f"{found.label} key={key_text(key)}"
    return seen, f"{name} {_in_words(seen, now)}"


def _check(
    found: Row | None,
    words: str,
    states: Iterable[State],
    wanted: str,
    error: str | None,
) -> None:
    __tracebackhide__ = True
    if found is None or found.state not in states:
        raise AssertionError(f"not {wanted}: {words}")
    if error is not None and error not in (found.error or ""):
        raise AssertionError(f"not {wanted} with the error {error!r}: {words}")


def _in_words(row: Row | None, now: datetime) -> str:
    if row is None:
        return "is not in the database"
    if row.state is State.IDLE:
        return "is idle: it is not marked, or was handled"
    facts = [
        f"is {row.state}",
        f"marked {span(now - row.at)} ago" if row.at else "marked by raw SQL",
        _due(row, now),
        f"attempts: {row.attempts}",
        f"workers that died of it: {row.crashes}" if row.crashes else "",
        f"error: {row.error}" if row.error else "",
    ]
    return ", ".join(fact for fact in facts if fact)


def _due(row: Row, now: datetime) -> str:
    if row.state is State.RUNNING and row.until:
        return f"held for another {span(row.until - now)}"
    if row.due is None or row.state is State.PARKED:
        return ""
    if row.due > now:
        return f"due in {span(row.due - now)}"
    return f"due since {span(now - row.due)}"
