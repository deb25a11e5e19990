"""How many rows of a flag are in which state, and which ones.

No look takes long, however many rows are pending: what has no filter reads at most
`CAP` entries of the flag's index from each end that matters, and says where there
may be more. Nothing here changes or locks anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from peewee import SQL, Case, Select, Tuple, fn

from .columns import NEVER, CompanionAccessor
from .dialects import has_key, keys_of
from .errors import BadText
from .finding import filtered, key_from_text, key_text
from .flags import PendingFlag
from .instants import instant
from .rows import PendingModel

#: The most entries of an index that a look reads, and so the most that it counts.
CAP = 10_000


class State(StrEnum):
    """The states of a row; docs/flow.md draws them."""

    IDLE = "idle"
    DUE = "due"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    RETRYING = "retrying"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class Amount:
    """How many; `more` says that there may be more than these `n`."""

    n: int
    more: bool = False

    def __str__(self) -> str:
        return f"{self.n:,}{'+' if self.more else ''}"


@dataclass(frozen=True, slots=True)
class Numbers:
    """How many rows of a flag are in which state, and how long the first one is due.

    Attributes:
        oldest: since when the longest-due row has been due, as an age; None: nothing
            is due, or all of it was marked by raw SQL, which notes no time.
    """

    due: Amount
    scheduled: Amount
    running: Amount
    retrying: Amount
    parked: Amount
    oldest: timedelta | None

    def of(self, state: State) -> Amount:
        """Return the amount of `state`, any but idle."""
        amount: Amount = getattr(self, state.value)
        return amount


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
        more: rows beyond `CAP` were not looked at; a filter finds them.
    """

    rows: list[Row]
    next: str | None
    more: bool


def numbers(flag: PendingFlag) -> Numbers:
    """Count the rows of `flag` by state.

    Raises:
        peewee.PeeweeException: the database, or the table, cannot be read.
    """
    now = now_of(flag)
    past, held, _, first = _sums(flag, _past(flag, now), now)
    ahead, held_ahead, retrying, _ = _sums(flag, _ahead(flag, now), now)
    parked, *_ = _sums(flag, _never(flag), now)
    full, full_ahead = past > CAP, ahead > CAP
    running = len(_held(flag, now)[0]) if full or full_ahead else held + held_ahead
    return Numbers(
        due=_amount(past - held, full),
        scheduled=_amount(ahead - held_ahead - retrying, full_ahead),
        running=_amount(running, full or full_ahead),
        retrying=_amount(retrying, full_ahead),
        parked=_amount(parked, parked > CAP),
        oldest=timedelta(milliseconds=now - first) if first else None,
    )


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
        held, more = _held(flag, now)
        found = _following(flag, held, after)[: limit + 1]
    else:
        found, more = _looked(flag, state, now, after, limit + 1)
    rows = _rows(flag, [key for _, key in found[:limit]], now)
    cursor = _cursor(*found[limit - 1]) if len(found) > limit else None
    return Page([row for row in rows if row.state is state], cursor, more)


def shown(flag: PendingFlag, key: tuple[Any, ...]) -> Row | None:
    """Return the row with `key`, in whatever state; None: there is none."""
    return next(iter(_rows(flag, [key], now_of(flag))), None)


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
        State.DUE: _past(flag, now) & ~held,
        State.SCHEDULED: _ahead(flag, now) & ~held & ~tried,
        State.RUNNING: pending & held & (flag.due < NEVER),
        State.RETRYING: _ahead(flag, now) & ~held & tried,
        State.PARKED: _never(flag),
    }
    return conditions[state]


def now_of(flag: PendingFlag) -> int:
    """Return the clock of the flag's database, ms."""
    ((now,),) = Select((), (flag.dialect.now,)).bind(flag.database).tuples()
    return int(now)


# The three stretches of the index. Each is a range, never an equality: where many
# rows have the one due time, PostgreSQL would not see that the index is in order,
# and read the table from its start.


def _past(flag: PendingFlag, now: Any) -> Any:
    return flag.dialect.is_set(flag) & (flag.due <= now)


def _ahead(flag: PendingFlag, now: Any) -> Any:
    return flag.dialect.is_set(flag) & (flag.due > now) & (flag.due < NEVER)


def _never(flag: PendingFlag) -> Any:
    return flag.dialect.is_set(flag) & (flag.due >= NEVER)


_STRETCHES = {
    State.DUE: _past,
    State.SCHEDULED: _ahead,
    State.RETRYING: _ahead,
    State.PARKED: lambda flag, now: _never(flag),
}


def _window(flag: PendingFlag, stretch: Any, order_by: Any = None) -> Any:
    keys = [f.alias(f"key_{i}") for i, f in enumerate(keys_of(flag.model))]
    times = [getattr(flag, name).alias(name) for name in ("due", "until", "attempts")]
    rows = flag.model.select(*times, *keys).where(stretch)
    return rows.order_by(order_by or flag.due).limit(CAP + 1).alias("w")


def _keys_in(flag: PendingFlag, window: Any) -> list[Any]:
    return [getattr(window.c, f"key_{i}") for i in range(len(keys_of(flag.model)))]


def _sums(flag: PendingFlag, stretch: Any, now: int) -> tuple[int, int, int, int]:
    """Return of at most CAP + 1 rows: how many, held, tried before, the first due."""
    window = _window(flag, stretch)
    held, tried = window.c.until > now, window.c.attempts > 0
    late = (window.c.until <= now) & (window.c.due > 0)
    columns = (
        fn.COUNT(SQL("1")),
        fn.SUM(Case(None, [(held, 1)], 0)),
        fn.SUM(Case(None, [(held, 0), (tried, 1)], 0)),
        fn.MIN(Case(None, [(late, window.c.due)], None)),
    )
    (sums,) = Select((window,), columns).bind(flag.database).tuples()
    all_of_them, held, tried, first = (int(one or 0) for one in sums)
    return all_of_them, held, tried, first


def _amount(n: int, more: bool) -> Amount:
    return Amount(min(n, CAP), more)


Found = list[tuple[int, tuple[Any, ...]]]


def _looked(
    flag: PendingFlag, state: State, now: int, after: str | None, limit: int
) -> tuple[Found, bool]:
    """Return due times and keys, and whether the look ended before the state did."""
    stretch = _STRETCHES[state](flag, now)
    window = _window(flag, stretch)
    held, tried = window.c.until > now, window.c.attempts > 0
    wanted = {
        State.DUE: ~held,
        State.SCHEDULED: ~held & ~tried,
        State.RETRYING: ~held & tried,
    }
    keys = _keys_in(flag, window)
    query = Select((window,), (window.c.due, *keys)).bind(flag.database)
    for where in (wanted.get(state), _after(flag, after, window.c.due, keys)):
        query = query if where is None else query.where(where)
    found = _found(flag, query.order_by(window.c.due, *keys).limit(limit))
    ended = len(found) < limit and _sums(flag, stretch, now)[0] > CAP
    return found, ended


def _held(flag: PendingFlag, now: int) -> tuple[Found, bool]:
    """Return due times and keys of rows that are held, in their order; and whether
    there may be others.

    They are at the ends: claims begin with the longest due, but where many have the
    one due time PostgreSQL has those that were changed behind the others.
    """
    found: set[tuple[int, tuple[Any, ...]]] = set()
    more = False
    for stretch in (_past(flag, now), _ahead(flag, now)):
        found |= set(_held_first(flag, stretch, now, flag.due))
        if _sums(flag, stretch, now)[0] > CAP:
            more = True
            found |= set(_held_first(flag, stretch, now, flag.due.desc()))
    return sorted(found), more


def _held_first(flag: PendingFlag, stretch: Any, now: int, order_by: Any) -> Found:
    window = _window(flag, stretch, order_by)
    query = Select((window,), (window.c.due, *_keys_in(flag, window)))
    return _found(flag, query.where(window.c.until > now).bind(flag.database))


def _found(flag: PendingFlag, query: Any) -> Found:
    fields = keys_of(flag.model)
    return [
        (due, tuple(f.python_value(part) for f, part in zip(fields, key, strict=True)))
        for due, *key in query.tuples()
    ]


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
    return _found(flag, query.order_by(flag.due, *keys).limit(limit))


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
        state=_state(pending, own, now),
        at=instant(at) if at else None,
        due=instant(due) if pending and 0 < due < NEVER else None,
        age=timedelta(milliseconds=now - at) if at else None,
        attempts=abs(own["attempts"]),
        crashes=own["crashes"],
        until=instant(own["until"]) if own["until"] else None,
        error=own["error"],
        values=_values(row),
    )


def _state(pending: bool, own: dict[str, Any], now: int) -> State:
    if pending and own["due"] >= NEVER:
        return State.PARKED
    if own["until"] > now:
        return State.RUNNING
    if not pending:
        return State.IDLE
    if own["due"] <= now:
        return State.DUE
    return State.RETRYING if own["attempts"] > 0 else State.SCHEDULED


def _values(row: PendingModel) -> dict[str, Any]:
    fields = row._meta.sorted_fields
    own = [
        f for f in fields if getattr(f, "accessor_class", None) is not CompanionAccessor
    ]
    return {field.name: row.__data__.get(field.name) for field in own}
