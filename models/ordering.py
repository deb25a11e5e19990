"""Rows of a flag that are not to run beside each other: those with the same values in
some fields run one after the other, in the order in which they were marked.

Before a row is whichever is held, and whichever was marked earlier and is due or waits
for its next attempt; not one that is parked, or whose time has not come yet. A row
with a NULL in one of the fields is alike to none. Two who look at the same time would
see the same: the caller lets one at a time look and claim.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

from peewee import SQL, Case, Field, NodeList, PeeweeException, Tuple

from .claiming import takable
from .columns import NEVER
from .dialects import Key, keys_of
from .flags import PendingFlag
from .shapes import Shape, blank

Fields = tuple["Field[Any]", ...]


def firsts(flag: PendingFlag, fields: Fields, *, window: int) -> list[Key]:
    """Return the keys of rows before which there is no other one alike in `fields`,
    for the longest due rows that are not alike to one that is held.

    Args:
        window: of how many due rows, those alike to one that is held included.

    Returns:
        0 to `window` keys, in no order. Not all of the rows need be due.
    """
    return _keys(flag, fields, window, is_free=False)


def free_firsts(flag: PendingFlag, fields: Fields, *, window: int) -> list[Key]:
    """Return what `firsts` does, but for rows that are not alike to one that waits
    for its next attempt either. It costs as much as is pending."""
    return _keys(flag, fields, window, is_free=True)


def _keys(
    flag: PendingFlag, fields: Fields, window: int, *, is_free: bool
) -> list[Key]:
    try:
        keys = _firsts(flag, flag.table, fields, is_free).run(window=window)
    except PeeweeException:
        _firsts.cache_clear()  # it may name an index that is there no more
        raise
    return [tuple(key) for key in keys.fetchall()]


@functools.lru_cache(maxsize=1024)
def _firsts(flag: PendingFlag, table: object, fields: Fields, is_free: bool) -> Shape:
    own = keys_of(flag.model)
    columns = {field.name: field for field in (*own, *fields, flag.due, flag)}
    rows = flag.model.select(*columns.values())
    rows = rows.where(takable(flag, suspects=True))
    if is_free:
        for others in (_held(flag, fields), _waiting(flag, fields)):
            rows = rows.where(_is_any_null(fields) | Tuple(*fields).not_in(others))
    one = rows.order_by(flag.due).limit(blank("window")).alias("candidate")
    alone = _is_any_null(_of(one, fields))
    firsts = [
        Case(None, [(alone, mine)], _first(flag, fields, one, key))
        for key, mine in zip(own, _of(one, own), strict=True)
    ]
    query = flag.model.select(*firsts).from_(one).distinct()
    if is_free:
        return Shape(query)
    held = _alike_and_held(flag, fields, one)
    # Not EXISTS, of which PostgreSQL would make a join with all that is held.
    return Shape(query.where(NodeList((held, SQL("IS NULL")))))


def _of(one: Any, fields: Sequence[Field[Any]]) -> list[Any]:
    return [getattr(one.c, field.column_name) for field in fields]


def _in(other: Any, fields: Sequence[Field[Any]]) -> list[Any]:
    return [getattr(other, field.name) for field in fields]


def _alike(one: Any, other: Any, fields: Fields) -> Any:
    pairs = zip(_in(other, fields), _of(one, fields), strict=True)
    return functools.reduce(operator.and_, [theirs == own for theirs, own in pairs])


def _is_any_null(fields: Sequence[Any]) -> Any:
    return functools.reduce(operator.or_, [field.is_null() for field in fields])


def _first(flag: PendingFlag, fields: Fields, one: Any, key: Field[Any]) -> Any:
    """Return, of the first row that is alike, the field `key`."""
    other = flag.model.alias("first")
    rows = other.select(getattr(other, key.name)).where(
        flag.dialect.is_set_too(getattr(other, flag.name), *_of(one, [flag])),
        _alike(one, other, fields),
        getattr(other, flag.due.name) < NEVER,
        (getattr(other, flag.due.name) <= flag.dialect.now) | _has_begun(flag, other),
    )
    order = _in(other, (flag.at, *keys_of(flag.model)))
    index, _ = flag.dialect.in_order(flag, fields, flag.companions)
    return rows.from_(flag.dialect.through(other, index)).order_by(*order).limit(1)


def _has_begun(flag: PendingFlag, other: Any) -> Any:
    """One that waits for its next attempt, not for its time to come."""
    error = getattr(other, flag.error.name)
    return (getattr(other, flag.attempts.name) != 0) | error.is_null(False)


def _is_held(flag: PendingFlag, other: Any) -> Any:
    """Also one that was unmarked: it runs all the same."""
    lease, until = _in(other, (flag.lease, flag.until))
    return lease.is_null(False) & (until > flag.dialect.now)


def _alike_and_held(flag: PendingFlag, fields: Fields, one: Any) -> Any:
    other = flag.model.alias("held")
    held = _is_held(flag, other) & _alike(one, other, fields)
    return other.select(SQL("1")).where(held).limit(1)


def _held(flag: PendingFlag, fields: Fields) -> Any:
    other = flag.model.alias("held")
    return _values(other, fields).where(_is_held(flag, other))


def _waiting(flag: PendingFlag, fields: Fields) -> Any:
    other = flag.model.alias("waiting")
    due = getattr(other, flag.due.name)
    later = (due > flag.dialect.now) & (due < NEVER)
    is_set = flag.dialect.is_set(getattr(other, flag.name))
    return _values(other, fields).where(is_set, later, _has_begun(flag, other))


def _values(other: Any, fields: Fields) -> Any:
    values = _in(other, fields)
    return other.select(*values).where(*(v.is_null(False) for v in values))
