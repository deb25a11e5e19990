"""The flag in the row, and the models that have one.

Whatever way peewee offers to write a flag (`save`, `create`, `update`,
`bulk_update`, `insert_many`, upserts) writes the whole transition, in the same
statement as the rest of the row, and announces the mark after the commit.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import peewee
from peewee import (
    SQL,
    Case,
    Entity,
    FieldAccessor,
    Metadata,
    Model,
    ModelInsert,
    ModelUpdate,
    Node,
    NodeList,
)

from . import transitions
from .columns import CompanionAccessor, companions
from .committing import announce
from .connection import database
from .dialects import Dialect, dialect_of
from .errors import DefinitionError

if TYPE_CHECKING:
    _BooleanField = peewee.BooleanField[bool]
else:
    _BooleanField = peewee.BooleanField


class FlagAccessor(FieldAccessor):
    """Assigning False to a flag that was loaded as False is nothing at all: the row
    may have been marked meanwhile."""

    def __set__(self, instance: Any, value: Any) -> None:
        idle = instance.__data__.get(self.name) is False
        if idle and not value and self.name not in instance._dirty:
            return
        super().__set__(instance, value if isinstance(value, Node) else bool(value))


class PendingFlag(_BooleanField):
    """A need, kept in the row that it concerns: `needs_welcome_email`.

    True means that something is to be done. The flag adds seven columns to its
    table, named after its own column, and an index of pending rows.

    Args:
        column_name: the column's name; default: the field's name.
        help_text, verbose_name: as for any peewee field.

    Attributes:
        at: when it was marked, ms; with the key it names the mark. 0 = idle.
        due: not to be claimed before, ms; `NEVER` = parked.
        attempts: claims of this mark; negative = marked again while held.
        crashes: claims in a row that ended without an end.
        until: the end of the lease, ms.
        lease: the random token of the claim that holds the row, or NULL.
        error: why the last attempt failed, or NULL.
    """

    accessor_class = FlagAccessor

    at: Any
    due: Any
    attempts: Any
    crashes: Any
    until: Any
    lease: Any
    error: Any

    def __init__(
        self,
        *,
        column_name: str | None = None,
        help_text: str | None = None,
        verbose_name: str | None = None,
    ) -> None:
        super().__init__(
            column_name=column_name, help_text=help_text, verbose_name=verbose_name
        )
        self.companions = companions()
        for suffix, companion in self.companions.items():
            setattr(self, suffix, companion)

    def bind(self, model: type[Model], name: str, set_attribute: bool = True) -> None:
        if not issubclass(model, PendingModel):
            raise DefinitionError(
                f"{model.__name__}.{name} is a flag, so {model.__name__} must derive"
                " from PendingModel"
            )
        super().bind(model, name, set_attribute)
        for suffix, companion in self.companions.items():
            companion.column_name = f"{self.column_name}_{suffix}"
            model._meta.add_field(f"{name}_{suffix}", companion)

    def ddl(self, ctx: Any) -> NodeList:
        column = Entity(self.column_name)
        check = (SQL("DEFAULT FALSE CHECK ("), column, SQL("IN (FALSE, TRUE))"))
        return NodeList((super().ddl(ctx), *check))

    @property
    def database(self) -> peewee.Database:
        """The database that the flag's model is bound to."""
        bound = self.model._meta.get_database_instance()
        if bound is None:
            raise DefinitionError(f"{self.model.__name__} is bound to no database")
        return bound

    @property
    def dialect(self) -> Dialect:
        """What the flag's database does its own way."""
        return dialect_of(self.database)

    @property
    def label(self) -> str:
        """The flag's name in messages, logs and commands: `<table>.<flag>`.

        A schema stands before the table; so does, with a slash, the name of a
        database that is not the default one.
        """
        meta = self.model._meta
        names = (meta.schema, meta.table_name, self.name)
        label = ".".join(name for name in names if name)
        if self.database is database:
            return label
        return f"{Path(str(self.database.database)).stem}/{label}"

    def key_of_mark(self, row: PendingModel) -> str:
        """Return what names this mark of a claimed row: the same for each attempt.

        Give it to whatever recognises repetitions (a Message-ID, an idempotency
        key): `user.needs_welcome_email:42:1763812345678`.
        """
        return f"{self.label}:{row._pk}:{getattr(row, self.at.name)}"


class PendingMetadata(Metadata):
    """Metadata that knows the flags of its model."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # peewee's default writes every column: a row loaded before somebody marked
        # it would erase the mark.
        self.only_save_dirty = True

    @property
    def flags(self) -> list[PendingFlag]:
        """The model's flags, in the order of their declaration."""
        return [f for f in self.sorted_fields if isinstance(f, PendingFlag)]

    def fields_to_index(self) -> list[Node]:
        # Built when asked for: an index appended while a flag is bound would be
        # inherited, pointing at the abstract base.
        indexes: list[Node] = super().fields_to_index()
        return indexes + [f.dialect.index(f, f.due) for f in self.flags]


class MarkingQuery:
    """A write that announces the flags it marks, once it has run."""

    marks: tuple[PendingFlag, ...] = ()

    def _execute(self, database: peewee.Database) -> Any:
        result = super()._execute(database)  # type: ignore[misc]
        for flag in self.marks if result != 0 else ():
            announce(flag, database)
        return result


class MarkingUpdate(MarkingQuery, ModelUpdate):
    """An UPDATE in which an assigned flag is a whole transition."""

    def __init__(self, model: type[Model], update: Any) -> None:
        super().__init__(model, transitions_for(update))
        self.marks = _marked(update)


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
        query.marks = tuple({*query.marks, *_marked(update)})
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


def _marked(data: Mapping[Any, Any]) -> tuple[PendingFlag, ...]:
    return tuple(f for f, value in data.items() if isinstance(f, PendingFlag) and value)


class PendingModel(Model):
    """A model that may have flags. Its rows save only what was assigned."""

    class Meta:
        database = database
        legacy_table_names = False
        model_metadata_class = PendingMetadata

    if TYPE_CHECKING:  # what peewee's stubs leave out
        _meta: Any
        _dirty: set[str]
        _pk: Any

        @classmethod
        def _normalize_data(cls, data: Any, kwargs: Any) -> Any: ...

    @classmethod
    def validate_model(cls) -> None:
        if cls._meta.flags and cls._meta.primary_key is False:
            raise DefinitionError(f"{cls.__name__} has flags, so it needs a key")

    @classmethod
    def update(cls, __data: Any = None, **update: Any) -> MarkingUpdate:
        return MarkingUpdate(cls, cls._normalize_data(__data, update))

    @classmethod
    def insert(cls, __data: Any = None, **insert: Any) -> MarkingInsert:
        data = cls._normalize_data(__data, insert)
        if not isinstance(data, Mapping):
            return MarkingInsert(cls, data)
        query = MarkingInsert(cls, _with_due_times(data))
        query.marks = _marked(data)
        return query

    @classmethod
    def insert_many(cls, rows: Iterable[Any], fields: Any = None) -> MarkingInsert:
        if not cls._meta.flags:
            return MarkingInsert(cls, insert=rows, columns=fields)
        as_data = functools.partial(_row_data, cls, _fields(cls, fields))
        data = [as_data(row) for row in rows]
        used = {flag for flag in cls._meta.flags if any(flag in row for row in data)}
        query = MarkingInsert(
            cls, [_with_due_times({**dict.fromkeys(used, False), **d}) for d in data]
        )
        query.marks = tuple(f for f in used if any(row.get(f) for row in data))
        return query

    @classmethod
    def insert_from(cls, query: Any, fields: Iterable[Any]) -> MarkingInsert:
        columns = _fields(cls, fields)
        insert = MarkingInsert(cls, insert=query, columns=columns)
        insert.marks = tuple(f for f in columns if isinstance(f, PendingFlag))
        return insert


def _fields(model: type[PendingModel], names: Iterable[Any] | None) -> list[Any]:
    if names is None:
        own = [f for f in model._meta.sorted_fields if not _is_companion(f)]
        return own[1:] if model._meta.auto_increment else own
    return [model._meta.combined[n] if isinstance(n, str) else n for n in names]


def _row_data(model: type[PendingModel], fields: list[Any], row: Any) -> dict[Any, Any]:
    data = row if isinstance(row, Mapping) else zip(fields, row, strict=False)
    normal = model._normalize_data(dict(data), {})
    # bulk_create() gives None for whatever a new row does not have.
    return {f: v for f, v in normal.items() if v is not None or not _is_machinery(f)}


def _is_machinery(field: Any) -> bool:
    return isinstance(field, PendingFlag) or _is_companion(field)


def _with_due_times(data: Mapping[Any, Any]) -> dict[Any, Any]:
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
