"""The flag in the row: its columns, its index, its name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import peewee
from peewee import SQL, Entity, FieldAccessor, Metadata, Model, Node, NodeList

from .columns import companions
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

    True means that something is to be done. Beside itself the flag adds seven
    companion columns to its table, named after its own, and an index of pending rows.

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
        if not isinstance(model._meta, PendingMetadata):
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
    def table(self) -> tuple[Any, ...]:
        """What SQL about the flag depends on: model, its fields, dialect, table.

        The flag alone is no key to it: to Peewee, fields of the same names are equal.
        """
        meta = self.model._meta
        table = (self.dialect, meta.schema, meta.table_name)
        return (self.model, len(meta.fields), *table)

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

    def key_of_mark(self, row: Any) -> str:
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
