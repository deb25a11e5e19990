"""Which rows of a flag are in a state, a page at a time; and one row, whatever it is.

Without filters this is as short as any of `looking`; with filters the whole of the
state is searched. Nothing here changes or locks anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from peewee import Select, Tuple

from . import looking
from .columns import NEVER, CompanionAccessor
from .dialects import has_key, keys_of
from .errors import BadText
from .finding import filtered, key_from_text, key_text
from .flags import PendingFlag
from .instants import instant
from .looking import Found, entries, found_by, held_rows, keys_in, sums_of
from .rows import PendingModel
from .states import State, condition, due_later, never_due, now_of, past_due, state_of


@dataclass(frozen=True, slots=True)
class Row:
    """A row as its flag sees it; instants by the database's clock.

    Attributes:
        key: a tuple, also of one column; `text` is how people type it.
        at: when it was marked; None: it is not, or by raw SQL.
        due: not before; None: idle, parked, or marked by raw SQL.
        age: since the mark.
        until: the end of the lease that it is held by, or was.
        values: the model's own fields, by name.
    """

    key: tuple[Any, ...]
    text: str
    state: State
    at: datetime | None
    due: datetime | None
    age: timedelta | None
    attempts: int
    crashes: int
    until: datetime | None
    error: str | None
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a state.

    Attributes:
        next: what `after` must be for the following page; None: there is none.
        more: rows beyond `looking.CAP` were not looked at; a filter finds them.
    """

    rows: list[Row]
    next: str | None
    more: bool


def listed(
    flag: PendingFlag,
    state: State,
    *,
    filters: Sequence[str] = (),
    after: str | None = None,
    limit: int = 50,
) -> Page:
    """Return rows of `flag` in `state`, those whose turn comes first at first.

    With filters the whole of the state is searched, which takes the time that the
    database needs.

    Args:
        state: any but idle.
        filters: as for `finding.filtered`.
        after: a page's `next`.
        limit: rows a page; 1 or more.

    Raises:
        BadText: a filter, or `after`, cannot be meant.
        peewee.PeeweeException: the database, or the table, cannot be read.
    """
    now = now_of(flag)
    if filters:
        found, more = _searched(flag, state, now, filters, after, limit + 1), False
    elif state is State.RUNNING:
        held, more = held_rows(flag, now)
        found = _following(flag, held, after)[: limit + 1]
    else:
        found, more = _looked(flag, state, now, after, limit + 1)
    rows = _rows(flag, [key for _, key in found[:limit]], now)
    cursor = _cursor(*found[limit - 1]) if len(found) > limit else None
    return Page([row for row in rows if row.state is state], cursor, more)


def shown(flag: PendingFlag, key: tuple[Any, ...]) -> Row | None:
    """Return the row with `key`, in whatever state; None: there is none."""
    return next(iter(_rows(flag, [key], now_of(flag))), None)


_STRETCHES = {
    State.DUE: past_due,
    State.SCHEDULED: due_later,
    State.RETRYING: due_later,
    State.PARKED: lambda flag, now: never_due(flag),
}


def _looked(
    flag: PendingFlag, state: State, now: int, after: str | None, limit: int
) -> tuple[Found, bool]:
    """Return due times and keys, and whether the look ended before the state did."""
    stretch = _STRETCHES[state](flag, now)
    window = entries(flag, stretch)
    held, tried = window.c.until > now, window.c.attempts > 0
    wanted = {
        State.DUE: ~held,
        State.SCHEDULED: ~held & ~tried,
        State.RETRYING: ~held & tried,
    }
    keys = keys_in(flag, window)
    query = Select((window,), (window.c.due, *keys)).bind(flag.database)
    for where in (wanted.get(state), _after(flag, after, window.c.due, keys)):
        query = query if where is None else query.where(where)
    found = found_by(flag, query.order_by(window.c.due, *keys).limit(limit))
    ended = len(found) < limit and sums_of(flag, stretch, now)[0] > looking.CAP
    return found, ended


def _searched(  # noqa: PLR0913, PLR0917 (one query)
    flag: PendingFlag,
    state: State,
    now: int,
    filters: Sequence[str],
    after: str | None,
    limit: int,
) -> Found:
    keys = keys_of(flag.model)
    where = [condition(flag, state, now), *filtered(flag, filters)]
    beyond = _after(flag, after, flag.due, keys)
    where += [] if beyond is None else [beyond]
    query = flag.model.select(flag.due, *keys).where(*where)
    return found_by(flag, query.order_by(flag.due, *keys).limit(limit))


def _cursor(due: int, key: tuple[Any, ...]) -> str:
    return json.dumps([due, key_text(key)])


def _after(flag: PendingFlag, cursor: str | None, due: Any, keys: Iterable[Any]) -> Any:
    if cursor is None:
        return None
    fields = (flag.due, *keys_of(flag.model))
    moment, key = _last(flag, cursor)
    last = zip(fields, (moment, *key), strict=True)
    return Tuple(due, *keys) > Tuple(*(field.to_value(value) for field, value in last))


def _following(flag: PendingFlag, found: Found, cursor: str | None) -> Found:
    if cursor is None:
        return found
    last = _last(flag, cursor)
    return [one for one in found if one > last]


def _last(flag: PendingFlag, cursor: str) -> tuple[int, tuple[Any, ...]]:
    try:
        moment, text = json.loads(cursor)
        return int(moment), key_from_text(flag, text)
    except (ValueError, TypeError, AttributeError):
        raise BadText(f"{cursor!r} is no page of {flag.label}") from None


def _rows(flag: PendingFlag, keys: list[tuple[Any, ...]], now: int) -> list[Row]:
    if not keys:
        return []
    query = flag.model.select().where(has_key(flag.model, *keys))
    return [
        _row(flag, one, now) for one in query.order_by(flag.due, *keys_of(flag.model))
    ]


def _row(flag: PendingFlag, row: PendingModel, now: int) -> Row:
    own = {
        suffix: getattr(row, field.name) for suffix, field in flag.companions.items()
    }
    pending = bool(row.__data__[flag.name])
    key = tuple(row.__data__[field.name] for field in keys_of(flag.model))
    due, at = own["due"], own["at"]
    return Row(
        key=key,
        text=key_text(key),
        state=state_of(pending, own, now),
        at=instant(at) if at else None,
        due=instant(due) if pending and 0 < due < NEVER else None,
        age=timedelta(milliseconds=now - at) if at else None,
        attempts=abs(own["attempts"]),
        crashes=own["crashes"],
        until=instant(own["until"]) if own["until"] else None,
        error=own["error"],
        values=_values(row),
    )


def _values(row: PendingModel) -> dict[str, Any]:
    fields = row._meta.sorted_fields
    own = [
        f for f in fields if getattr(f, "accessor_class", None) is not CompanionAccessor
    ]
    return {field.name: row.__data__.get(field.name) for field in own}
