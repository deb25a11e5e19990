"""The flag in the row: its columns, its index, its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

import peewee
from peewee import SQL, Entity, FieldAccessor, Metadata, Model, Node, NodeList

from . import connection
from .columns import companions
from .dialects import Dialect, dialect_of
from .errors import DefinitionError
from .loops import AwaitableDatabase
from .shapes import WITHIN

if TYPE_CHECKING:
    from .rows import PendingModel

    _BooleanField = peewee.BooleanField[bool]
else:
    _BooleanField = peewee.BooleanField

#: The model that a flag is in. Its flags fit no other model's rows and handlers.
M = TypeVar("M", bound="PendingModel")

_Owner = TypeVar("_Owner", bound="PendingModel")


#: Where the bells of flags hang that name no other queue.
QUEUE = "pending"

_MOST_BYTES = 63  # of a column's name, on PostgreSQL

_QUEUE_NAME = re.compile(r"(?!.*\.[DX]Q$)[A-Za-z_][A-Za-z0-9._-]{0,99}")


class FlagAccessor(FieldAccessor):
    """Assigning False to a flag that was loaded as False is nothing at all: the row
    may have been marked meanwhile."""

    def __set__(self, instance: Any, value: Any) -> None:
        idle = instance.__data__.get(self.name) is False
        if idle and not value and self.name not in instance._dirty:
            return
        super().__set__(instance, value if isinstance(value, Node) else bool(value))


WITHIN.add(FlagAccessor.__set__)


class _Alias:
    """Another name of an attribute. No FieldAccessor, which peewee would take for a
    field of its own in subclasses."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        return getattr(owner if instance is None else instance, self.name)

    def __set__(self, instance: Any, value: Any) -> None:
        setattr(instance, self.name, value)


class PendingFlag(_BooleanField, Generic[M]):
    """A need, kept in the row that it concerns: `needs_welcome_email`.

    True means that something is to be done. Beside itself the flag adds seven
    companion columns to its table, named after its own, and an index of pending rows.

    Args:
        column_name: the column's name, 54 bytes at most; default: the field's name.
        queue: where its bells hang; `dramatiq worker -Q <queue>` does the work of that
            queue's flags alone.
        priority: among the flags that wait for a worker's threads the one with the
            lowest number is first, as with dramatiq's actors.
        was: the name that the flag had before it was renamed. Whatever outlives the
            code keeps it: the columns, the label (in bells, pauses, numbers, keys of
            marks); and the model answers to it as well. So code that knows the old
            name and code that knows the new one work side by side.
        help_text, verbose_name: as for any peewee field.

    Attributes:
        at: when it was marked, ms; with the key it names the mark. 0 = idle.
        due: not to be claimed before, ms; `NEVER` = parked.
        attempts: claims of this mark; negative = marked again while held.
        crashes: claims in a row that ended without an end.
        until: the end of the lease, ms.
        lease: the random token of the claim that holds the row, or NULL.
        error: why the last attempt failed, or NULL.
        serialize_by: the fields of the handler's option; they have indexes too.
    """

    accessor_class = FlagAccessor

    at: Any
    due: Any
    attempts: Any
    crashes: Any
    until: Any
    lease: Any
    error: Any

    if TYPE_CHECKING:  # on a row it is a bool, on a model that model's flag

        def __new__(cls, **options: Any) -> Self: ...

        @overload
        def __get__(
            self, instance: None, owner: type[_Owner]
        ) -> PendingFlag[_Owner]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> bool: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...

    def __init__(  # noqa: PLR0913 (options, by name)
        self: PendingFlag[PendingModel],
        *,
        column_name: str | None = None,
        queue: str = QUEUE,
        priority: int = 0,
        was: str | None = None,
        help_text: str | None = None,
        verbose_name: str | None = None,
    ) -> None:
        self.queue, self.priority = _queue_name(queue), _whole_number(priority)
        self.serialize_by: tuple[peewee.Field[Any], ...] = ()
        super().__init__(
            column_name=column_name or was,
            help_text=help_text,
            verbose_name=verbose_name,
        )
        self.was = was
        self.companions = companions()
        for suffix, companion in self.companions.items():
            setattr(self, suffix, companion)

    def bind(self, model: type[Model], name: str, set_attribute: bool = True) -> None:
        if not isinstance(model._meta, PendingMetadata):
            raise DefinitionError(
                f"{model.__name__}.{name} is a flag, so {model.__name__} must derive"
                f" from PendingModel: class {model.__name__}(PendingModel), or"
                f" class {model.__name__}(YourBase, PendingModel)"
            )
        super().bind(model, name, set_attribute)
        for suffix, companion in self.companions.items():
            companion.column_name = f"{self.column_name}_{suffix}"
            model._meta.add_field(f"{name}_{suffix}", companion)
        self._check_length()
        if self.was and set_attribute:
            self._answer_to(self.was)

    def _check_length(self) -> None:
        longest = max(len(one.column_name.encode()) for one in self.columns.values())
        if longest > _MOST_BYTES:  # MySQL refuses it, PostgreSQL cuts it off
            owned = longest - len(self.column_name.encode())
            raise DefinitionError(
                f"{self.model.__name__}.{self.name}: a flag's column has at most"
                f" {_MOST_BYTES - owned} bytes in its name, as its companions' are"
                " longer, and databases know no more; give it another with column_name="
            )

    def _answer_to(self, name: str) -> None:
        for field in (self, *self.companions.values()):
            alias = name + field.name.removeprefix(self.name)
            setattr(self.model, alias, _Alias(field.name))

    def ddl(self, ctx: Any) -> NodeList:
        return NodeList((self.unchecked(ctx), self.check))

    def unchecked(self, ctx: Any) -> NodeList:
        """Return the definition of the flag's own column, without its CHECK."""
        return NodeList((super().ddl(ctx), SQL("DEFAULT FALSE")))

    @property
    def check(self) -> NodeList:
        """The CHECK that keeps the column to true and false."""
        column = Entity(self.column_name)
        return NodeList((SQL("CHECK ("), column, SQL("IN (FALSE, TRUE))")))

    @property
    def columns(self) -> dict[str, peewee.Field[Any]]:
        """All its columns by their suffix, its own first, with none."""
        return {"": self, **self.companions}

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

    def order_indexes(self) -> list[Any]:
        """Return the indexes without which the order of rows that are alike costs what
        the table holds; none if there is no such order."""
        if not self.serialize_by:
            return []
        return self.dialect.in_order(self, self.serialize_by, self.companions)

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

        A flag that was renamed keeps the label that it had. A schema stands before
        the table; so does, with a slash, the name of a database that is not the
        default one.
        """
        return self._called(self.was or self.name)

    @property
    def new_label(self) -> str:
        """The label by its new name, of a flag that was renamed; else the label."""
        return self._called(self.name)

    def _called(self, name: str) -> str:
        meta = self.model._meta
        names = (meta.schema, meta.table_name, name)
        label = ".".join(name for name in names if name)
        if meta.database is connection.database:  # it may be a proxy still
            return label
        home = _home(meta.database) or self.database
        if home is _home(connection.database):
            return label
        return f"{Path(str(home.database)).stem}/{label}"

    def key_of_mark(self, row: M) -> str:
        """Return what names this mark of a claimed row: the same for each attempt.

        Give it to whatever recognises repetitions (a Message-ID, an idempotency
        key): `user.needs_welcome_email:42:1763812345678`.
        """
        return f"{self.label}:{row._pk}:{getattr(row, self.at.name)}"


def _queue_name(queue: Any) -> str:
    if not isinstance(queue, str) or not _QUEUE_NAME.fullmatch(queue):
        raise DefinitionError(
            f"{queue!r} is no name of a queue: letters, digits, '_', '-' and '.', at"
            " most 100, a letter or '_' first, and no .DQ or .XQ at the end"
        )
    return queue


def _whole_number(priority: Any) -> int:
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise DefinitionError(f"priority is a whole number, not {priority!r}")
    return priority


def _home(database: Any) -> Any:
    """Return where its rows live, wherever that is asked: of two objects the plain."""
    if isinstance(database, AwaitableDatabase):
        return database.plain
    return connection.resolved(database)


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
        indexes += [f.dialect.index(f, f.due) for f in self.flags]
        return indexes + [one for f in self.flags for one in f.order_indexes()]
