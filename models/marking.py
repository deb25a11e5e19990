"""Step 1, mark: the row says that something is to be done.

One UPDATE, however many rows; or one INSERT for a row that is new. A mark made in
a transaction commits and rolls back with it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from peewee import CompoundSelectQuery, ModelSelect, Select

from .dialects import has_key, key_values, keys_of
from .errors import NotAFlag, UnsavedRow
from .flags import M, PendingFlag
from .loops import without_blocking
from .rows import PendingModel

if TYPE_CHECKING:
    Target: TypeAlias = M | ModelSelect[M] | CompoundSelectQuery

_TARGETS: Any = (PendingModel, ModelSelect, CompoundSelectQuery)


def mark_pending(
    target: Target[M],
    flag: PendingFlag[M] | str,
    *,
    delay: timedelta | None = None,
    at: datetime | None = None,
) -> int:
    """Mark a row, or every row of a query, as having `flag`'s work to be done.

    A row that is new is inserted with its flag; of a saved one only the flag is
    written. A row that is pending already is due at the time of the last mark; one
    that is being handled is handled once more afterwards.

    Args:
        target: a row, or a select query of one model with flags.
        flag: the flag, or its name in the model.
        delay: do the work no sooner than this long from now; not below zero.
        at: do the work no sooner than at this instant; aware.

    Returns:
        How many rows are pending because of this call, those that were already
        pending included; 0 for a row that was deleted meanwhile.

    Raises:
        NotAFlag: the model has no such flag.
        ValueError: `delay` and `at` together, a negative delay, a naive instant.
        peewee.PeeweeException: the database refused; nothing is marked.
    """
    found = flag_of(target, flag)
    changes = {found: True, **_due(found, delay, at)}
    if not isinstance(target, PendingModel):
        return _update_query(target, found, changes)
    marked = _update_row(target, changes) if _may_be_saved(target) else 0
    if not marked and _may_be_new(target):
        marked = _insert_row(target, changes)
    if marked:
        _remember(target, found, True)
    return marked


def unmark(target: Target[M], flag: PendingFlag[M] | str) -> int:
    """Take the mark back: there is nothing to be done for these rows.

    A handler that is at work on such a row ends its run, which then counts for
    nothing more.

    Args:
        target: a saved row, or a select query of one model with flags.
        flag: the flag, or its name in the model.

    Returns:
        How many rows were pending until now.

    Raises:
        NotAFlag: the model has no such flag.
        UnsavedRow: the row has no key yet.
    """
    found = flag_of(target, flag)
    pending = found.dialect.is_set(found)
    if not isinstance(target, PendingModel):
        return _update_query(target, found, {found: False}, pending)
    if not _may_be_saved(target):
        raise UnsavedRow(f"{found.label}: the row was never saved, so it has no mark")
    unmarked = _update_row(target, {found: False}, pending)
    _remember(target, found, False)
    return unmarked


async def mark_pending_async(
    target: Target[M],
    flag: PendingFlag[M] | str,
    *,
    delay: timedelta | None = None,
    at: datetime | None = None,
) -> int:
    """Do the same as `mark_pending` from a coroutine, whose event loop goes on.

    With an async database it takes part in the task's transaction. With any other it
    runs in a thread, in a transaction of its own.

    Args, returns and raises: as `mark_pending`; also

    Raises:
        OpenTransaction: a plain database has one open in the loop's thread.
    """
    found = flag_of(target, flag)
    mark = partial(mark_pending, target, found, delay=delay, at=at)
    return await without_blocking(found.database, mark)


async def unmark_async(target: Target[M], flag: PendingFlag[M] | str) -> int:
    """Do the same as `unmark` from a coroutine, as `mark_pending_async` does."""
    found = flag_of(target, flag)
    return await without_blocking(found.database, partial(unmark, target, found))


def flag_of(target: Any, flag: PendingFlag | str) -> PendingFlag:
    """Return the flag of the target's model that `flag` is, or is the name of."""
    if not isinstance(target, _TARGETS):
        raise TypeError(
            f"a row or a select query of a model with flags is marked, not {target!r}"
        )
    model: Any = type(target) if isinstance(target, PendingModel) else target.model
    name = str(getattr(flag, "name", flag))
    found = model._meta.fields.get(name.rpartition(".")[2])
    owner: Any = getattr(flag, "model", model)  # a base's flag is inherited
    if not isinstance(found, PendingFlag) or not issubclass(model, owner):
        own = ", ".join(one.name for one in model._meta.flags) or "none"
        raise NotAFlag(f"{model.__name__} has no flag {flag!r}; it has {own}")
    return found


def _due(flag: PendingFlag, delay: timedelta | None, at: datetime | None) -> Any:
    if delay is not None and at is not None:
        raise ValueError("give delay or at, not both")
    if delay is not None:
        if not isinstance(delay, timedelta):
            raise TypeError(f"delay is a timedelta, not {delay!r}")
        if delay < timedelta(0):
            raise ValueError(f"delay is negative: {delay}")
        return {flag.due: flag.dialect.now + round(delay / timedelta(milliseconds=1))}
    if at is not None:
        if at.tzinfo is None:
            raise ValueError(f"at has no time zone: {at}")
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        return {flag.due: round((at - epoch) / timedelta(milliseconds=1))}
    return {}


def _may_be_saved(row: PendingModel) -> bool:
    return None not in key_values(row)


def _may_be_new(row: PendingModel) -> bool:
    # A loaded row's key is not dirty. Only the key of an AutoField tells for itself.
    if row._meta.auto_increment:
        return not _may_be_saved(row)
    return any(field.name in row._dirty for field in keys_of(type(row)))


def _update_query(
    query: Any, flag: PendingFlag, changes: dict[Any, Any], *where: Any
) -> int:
    # The condition is the update's: in the query, a LIMIT would reach further rows.
    update = flag.dialect.among(query.model.update(changes), _keys(query))
    return int((update.where(*where) if where else update).execute())


def _keys(query: Any) -> Any:
    keys = keys_of(query.model)
    if not isinstance(query, CompoundSelectQuery):
        return query.select(*keys)
    union = query.alias("rows_to_mark")
    return Select((union,), [getattr(union.c, key.column_name) for key in keys])


def _update_row(row: PendingModel, changes: dict[Any, Any], *where: Any) -> int:
    mine = has_key(type(row), key_values(row))
    return int(type(row).update(changes).where(mine, *where).execute())


def _insert_row(row: PendingModel, changes: dict[Any, Any]) -> int:
    """Insert the row through its own save(), which also learns the new key."""
    extra = {field.name: value for field, value in changes.items()}
    row.__data__.update(extra)
    try:
        return int(row.save(force_insert=True))
    finally:
        for field in changes:
            if not isinstance(field, PendingFlag):
                row.__data__.pop(field.name, None)


def _remember(row: PendingModel, flag: PendingFlag, value: bool) -> None:
    row.__data__[flag.name] = value
    row._dirty.discard(flag.name)
