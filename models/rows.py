"""Models that may have flags.

Whatever way peewee offers to write a flag (`save`, `create`, `update`,
`bulk_update`, `insert_many`, upserts) marks or unmarks the row.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import peewee
from peewee import Model

from .connection import database
from .errors import DefinitionError
from .flags import PendingMetadata
from .writing import (
    MarkingInsert,
    MarkingUpdate,
    fields_of,
    is_machinery,
    marked,
    row_data,
    with_due_times,
)


class PendingSchema(peewee.SchemaManager):
    """Creates tables with what is good for flags, where the model says nothing else."""

    def _create_table(self, safe: bool = True, **options: Any) -> Any:
        context = super()._create_table(safe, **options)  # type: ignore[misc]
        meta = self.model._meta
        if meta.flags and meta.table_settings is None:
            context.literal(meta.flags[0].dialect.table_setting)
        return context


def _is_elsewhere(base: Any) -> bool:
    """Say whether `base`, of a model, is one of the application's own database."""
    other = getattr(getattr(base, "_meta", None), "database", None)
    if other is None or issubclass(base, PendingModel):
        return False
    return other is not PendingModel._meta.database


class PendingModel(Model):
    """A model that may have flags. Its rows save only what was assigned."""

    if not TYPE_CHECKING:  # to a checker, a model's own would be another type

        class Meta:
            database = database
            legacy_table_names = False
            model_metadata_class = PendingMetadata
            schema_manager_class = PendingSchema

    if TYPE_CHECKING:  # what peewee's stubs leave out
        id: Any  # of a model that names no other key
        DoesNotExist: type[peewee.DoesNotExist]
        _meta: Any
        _dirty: set[str]
        _pk: Any

        @classmethod
        def _normalize_data(cls, data: Any, kwargs: Any) -> Any: ...

    @classmethod
    def validate_model(cls) -> None:
        if cls._meta.flags and cls._meta.primary_key is False:
            raise DefinitionError(f"{cls.__name__} has flags, so it needs a key")
        for base in cls.__bases__:
            if (
                _is_elsewhere(base)
                and cls._meta.database is PendingModel._meta.database
            ):
                raise DefinitionError(
                    f"{cls.__name__} would not be in the database of {base.__name__};"
                    f" write class {cls.__name__}({base.__name__}, PendingModel)"
                )

    @classmethod
    def update(cls, __data: Any = None, **update: Any) -> MarkingUpdate:
        return MarkingUpdate(cls, cls._normalize_data(__data, update))

    @classmethod
    def insert(cls, __data: Any = None, **insert: Any) -> MarkingInsert:
        if isinstance(__data, list) and __data and not insert:
            return cls.insert_many(__data)
        data = cls._normalize_data(__data, insert)
        query = MarkingInsert(cls, data)
        if isinstance(data, Mapping):
            query.marks = marked(data)
        return query

    @classmethod
    def insert_many(cls, rows: Iterable[Any], fields: Any = None) -> MarkingInsert:
        if not cls._meta.flags:
            return MarkingInsert(cls, insert=rows, columns=fields)
        named = fields_of(cls, fields)
        only = {name for f in named for name in (f, f.name, f.column_name)}
        as_data = functools.partial(row_data, cls, named, only if fields else set())
        data = [as_data(row) for row in rows]
        used = {flag for flag in cls._meta.flags if any(flag in row for row in data)}
        whole = [with_due_times({**dict.fromkeys(used, False), **d}) for d in data]
        columns = None
        if fields and whole:
            columns = [f for f in named if not is_machinery(f)]
            columns += [f for f in whole[0] if is_machinery(f)]
        query = MarkingInsert(cls, whole, columns=columns)
        query.marks = tuple(f for f in used if any(row.get(f) for row in data))
        return query

    @classmethod
    def insert_from(cls, query: Any, fields: Iterable[Any]) -> MarkingInsert:
        columns = fields_of(cls, fields)
        insert = MarkingInsert(cls, insert=query, columns=columns)
        insert.marks = marked(dict.fromkeys(columns, True))
        return insert
