"""Flags in peewee's writes: an assigned flag becomes a whole transition.

In the same statement as the rest of the row; and once the statement has run, what
it marked is announced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

import peewee
from peewee import Case, Model, ModelInsert, ModelUpdate, Node

from . import transitions
from .columns import CompanionAccessor
from .committing import announce
from .flags import PendingFlag


class MarkingQuery:
    """A write that announces the flags it marks, once it has run."""

    marks: tuple[PendingFlag, ...] = ()

    def _execute(self, database: peewee.Database) -> Any:
        result = super()._execute(database)  # type: ignore[misc]
        # Only an UPDATE's result counts rows: an INSERT's is a key, and MySQL gives
        # 0 for rows that bring theirs.
        if result != 0 or not isinstance(self, ModelUpdate):
            for flag in self.marks:
                announce(flag, database)
        return result


class MarkingUpdate(MarkingQuery, ModelUpdate):
    """An UPDATE in which an assigned flag is a whole transition."""

    def __init__(self, model: type[Model], update: Any) -> None:
        super().__init__(model, transitions_for(update))
        self.marks = marked(update)


class MarkingInsert(MarkingQuery, ModelInsert):
    """An INSERT whose marked rows are due; also where it turns into an UPDATE."""

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


def marked(data: Mapping[Any, Any]) -> tuple[PendingFlag, ...]:
    return tuple(f for f, value in data.items() if isinstance(f, PendingFlag) and value)


def fields_of(model: type[Model], names: Iterable[Any] | None) -> list[Any]:
    if names is None:
        own = [f for f in model._meta.sorted_fields if not _is_companion(f)]
        return own[1:] if model._meta.auto_increment else own
    return [model._meta.combined[n] if isinstance(n, str) else n for n in names]


def row_data(model: Any, fields: list[Any], row: Any) -> dict[Any, Any]:
    data = row if isinstance(row, Mapping) else zip(fields, row, strict=False)
    normal = model._normalize_data(dict(data), {})
    # bulk_create() gives None for whatever a new row does not have.
    return {f: v for f, v in normal.items() if v is not None or not _is_machinery(f)}


def _is_machinery(field: Any) -> bool:
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
