"""Flags in peewee's writes: an assigned flag becomes a whole transition.

In the same statement as the rest of the row; and once the statement has run, what
it marked is announced.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

import peewee
from peewee import OP, Case, Expression, Field, Model, ModelInsert, ModelUpdate, Node

from . import transitions
from .columns import CompanionAccessor
from .committing import announce
from .connection import resolved
from .flags import PendingFlag
from .shapes import Shape, blank


class MarkingQuery:
    """A write that announces the flags it marks, once it has run.

    If it sets nothing but plain values in the way that `save()` and `create()` do, its
    SQL was built before.
    """

    marks: tuple[PendingFlag, ...] = ()

    def _execute(self, database: peewee.Database) -> Any:
        known = self._known() if self._is_the_models(database) else None
        if known is None:
            result = super()._execute(database)  # type: ignore[misc]
        else:
            shape, values = known
            result = self._told(database, database.execute_sql(shape.sql, values))
        # Only an UPDATE's result counts rows: an INSERT's is a key, and MySQL gives
        # 0 for rows that bring theirs.
        if result != 0 or not isinstance(self, ModelUpdate):
            for flag in self.marks:
                announce(flag, database)
        return result

    def _is_the_models(self, database: peewee.Database) -> bool:
        """Say whether `database`, which may be a proxy, is the one that the model is
        bound to now."""
        own = self.model._meta.database  # type: ignore[attr-defined]
        return database is own or resolved(database) is resolved(own)

    def _known(self) -> tuple[Shape, list[Any]] | None:
        """Return the SQL that was built before, and the values of its parameters."""
        raise NotImplementedError

    def _told(self, database: peewee.Database, cursor: Any) -> Any:
        """Return what the driver's `cursor` says came of it, as peewee does."""
        return self.handle_result(database, cursor)  # type: ignore[attr-defined]


class MarkingUpdate(MarkingQuery, ModelUpdate):
    """An UPDATE in which an assigned flag is a whole transition."""

    if TYPE_CHECKING:  # what peewee's stubs leave out
        _update: Any
        _where: Any

    def __init__(self, model: type[Model], update: Any) -> None:
        super().__init__(model, update)
        self.marks = marked(update)

    def __sql__(self, ctx: Any) -> Any:
        whole = self.clone()
        whole._update = transitions_for(self._update)
        return ModelUpdate.__sql__(whole, ctx)

    def _known(self) -> tuple[Shape, list[Any]] | None:
        data, test = self._update, self._where
        if not (is_plain(data) and _is_test(test) and self._is_simple()):
            return None
        shape = _known_update(*_kind(self.model, data, self.marks), test.lhs)
        if shape is None:
            return None
        return _filled(shape, {**_by_name(data), _TEST: test.rhs})

    def _is_simple(self) -> bool:
        parts = ("_from", "_cte_list", "_order_by", "_limit", "_offset", "_returning")
        return not any(getattr(self, part) for part in parts)


class MarkingInsert(MarkingQuery, ModelInsert):
    """An INSERT whose marked rows are due; also where it turns into an UPDATE."""

    if TYPE_CHECKING:  # what peewee's stubs leave out
        _as_rowcount: bool
        _insert: Any
        _on_conflict: Any
        _return_cursor: bool
        _returning: Any

    def __sql__(self, ctx: Any) -> Any:
        whole = self.clone()
        if isinstance(self._insert, Mapping):
            whole._insert = with_due_times(self._insert)
        return ModelInsert.__sql__(whole, ctx)

    def _known(self) -> tuple[Shape, list[Any]] | None:
        data, meta = self._insert, self.model._meta
        if not (isinstance(data, Mapping) and is_plain(data) and self._is_simple()):
            return None
        if not meta.defaults.keys() <= data.keys():
            return None
        kind = _kind(self.model, data, self.marks)
        shape = _known_insert(*kind, returning=bool(self._returning))
        return _filled(shape, _by_name(data))

    def _is_simple(self) -> bool:
        parts = ("_on_conflict", "_return_cursor", "_as_rowcount", "_cte_list")
        is_composite = self.model._meta.composite_key
        return not (is_composite or any(getattr(self, part) for part in parts))

    def _told(self, database: peewee.Database, cursor: Any) -> Any:
        if not self._returning:  # the driver tells the key, or there is none
            return super()._told(database, cursor)
        row = cursor.fetchone()  # none, if a trigger forbids it
        return row and self._returning[0].python_value(row[0])

    def on_conflict(self, *args: Any, **kwargs: Any) -> Self:
        query: Any = super().on_conflict(*args, **kwargs)
        conflict = query._on_conflict
        if conflict is None:
            return query
        update = dict(query.model._normalize_data(conflict._update or {}, {}))
        kept = []
        for column in conflict._preserve or ():
            field = query.model._meta.combined.get(column, column)
            if isinstance(field, PendingFlag):
                update[field] = field.dialect.inserted(field)
            else:
                kept.append(column)
        conflict._preserve, conflict._update = tuple(kept), transitions_for(update)
        query.marks = tuple({*query.marks, *marked(update)})
        return query


_TEST = "="  # the blank of the value that is asked for

_Kind = tuple[type[Model], Any, tuple[Any, ...], tuple[PendingFlag, ...]]


def _kind(model: type[Model], data: Mapping[Any, Any], marks: Any) -> _Kind:
    """Return what the SQL of a write depends on: all but the values."""
    meta: Any = model._meta
    table = (type(meta.get_database_instance()), meta.schema, meta.table_name)
    return model, table, tuple(data), tuple(marks)


@functools.lru_cache(maxsize=1024)
def _known_insert(
    model: type[Model], table: Any, fields: Any, marks: Any, *, returning: bool
) -> Shape:
    return Shape(ModelInsert(model, with_due_times(_blanks(fields, marks))))


@functools.lru_cache(maxsize=1024)
def _known_update(
    model: type[Model], table: Any, fields: Any, marks: Any, tested: Field[Any]
) -> Shape | None:
    if any(type(field).to_value is not Field.to_value for field in (*fields, tested)):
        return None  # it makes more of a value than is known here
    update = ModelUpdate(model, transitions_for(_blanks(fields, marks)))
    # Not with ==, which a field may have overridden.
    return Shape(update.where(Expression(tested, OP.EQ, blank(_TEST, tested))))


def _blanks(fields: Iterable[Any], marks: Iterable[PendingFlag]) -> dict[Any, Any]:
    true = set(marks)  # not a tuple: to it, any field equals any other
    return {
        f: f in true if isinstance(f, PendingFlag) else blank(f.name, f) for f in fields
    }


def _by_name(data: Mapping[Any, Any]) -> dict[str, Any]:
    return {field.name: value for field, value in data.items()}


def _filled(shape: Shape, values: dict[str, Any]) -> tuple[Shape, list[Any]] | None:
    """Return `shape` and its parameters; None if a field makes SQL of its value."""
    params = shape.filled(values)
    return None if any(isinstance(p, Node) for p in params) else (shape, params)


def _is_test(where: Any) -> bool:
    """Say whether a condition is that one field has one value."""
    return (
        isinstance(where, Expression)
        and where.op == OP.EQ
        and isinstance(where.lhs, Field)
        and isinstance(where.rhs, int | str | bytes | UUID)
    )


def transitions_for(data: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return `data`, fields to values, with each flag's whole transition in it.

    A companion that is given expressly keeps its value.
    """
    changes: dict[Any, Any] = {}
    for field, value in data.items():
        if not isinstance(field, PendingFlag):
            continue
        if isinstance(value, Node):
            changes |= transitions.set_to(field, value)
        else:
            transition = transitions.mark if value else transitions.unmark
            changes |= transition(field)
    return {**data, **changes, **_given_companions(data)}


def _given_companions(data: Mapping[Any, Any]) -> dict[Any, Any]:
    return {f: v for f, v in data.items() if _is_companion(f)}


def _is_companion(field: Any) -> bool:
    return getattr(field, "accessor_class", None) is CompanionAccessor


def is_plain(data: Mapping[Any, Any]) -> bool:
    """Say whether `data`, fields to values, is nothing but fields and values."""
    return all(isinstance(field, Field) for field in data) and not any(
        isinstance(value, Node | Model) for value in data.values()
    )


def marked(data: Mapping[Any, Any]) -> tuple[PendingFlag, ...]:
    return tuple(f for f, value in data.items() if isinstance(f, PendingFlag) and value)


def fields_of(model: type[Model], names: Iterable[Any] | None) -> list[Any]:
    if names is None:
        own = [f for f in model._meta.sorted_fields if not _is_companion(f)]
        return own[1:] if model._meta.auto_increment else own
    return [model._meta.combined[n] if isinstance(n, str) else n for n in names]


def row_data(model: Any, fields: list[Any], only: set[Any], row: Any) -> dict[Any, Any]:
    """Return `row`, a tuple of `fields` or a mapping, as a mapping of fields.

    Args:
        only: the keys that count in a mapping; empty: all.
    """
    if not isinstance(row, Mapping):
        data = dict(zip(fields, row, strict=False))
    elif only:
        data = {key: value for key, value in row.items() if key in only}
    else:
        data = dict(row)
    normal = model._normalize_data(data, {})
    # bulk_create() gives None for whatever a new row does not have.
    return {f: v for f, v in normal.items() if v is not None or not is_machinery(f)}


def is_machinery(field: Any) -> bool:
    return isinstance(field, PendingFlag) or _is_companion(field)


def with_due_times(data: Mapping[Any, Any]) -> dict[Any, Any]:
    times: dict[Any, Any] = {}
    for flag, value in data.items():
        if isinstance(flag, PendingFlag):
            now = _now_if(flag, value)
            times |= {flag.at: now, flag.due: now}
    return {**data, **times, **_given_companions(data)}


def _now_if(flag: PendingFlag, value: Any) -> Any:
    if isinstance(value, Node):
        return Case(None, [(value, flag.dialect.now)], 0)
    return flag.dialect.now if value else 0
