"""What the dialects have in common; the subclasses say what differs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import peewee
from peewee import SQL, Field, Model, ModelUpdate, Node, fn

from ..shapes import Shape, blank
from .keys import key_of, keys_of

T = TypeVar("T")

#: Runs an UPDATE that was prepared, its blanks given by name; returns the changed rows.
Picking = Callable[..., list[Any]]

#: The values for many rows, by the names of the fields.
Values = dict[str, Sequence[Any]]

#: Runs an UPDATE that was prepared for many rows; returns the places of the changed.
Each = Callable[[Values], list[int]]

_LONG_NAME = 60  # of an index: MySQL takes 64 characters, PostgreSQL 63


class Dialect:
    """What is common; the subclasses say what differs."""

    now: SQL
    greatest = "GREATEST"
    text = "TEXT"  # that any value can be cast to
    role = ""  # as SQL that says how GRANT names it; none where there are no roles
    longest_transaction = ""  # as SQL: since when, in s, and the statement that ends it
    table_setting = ""

    def greater(self, one: Any, other: Any) -> Node:
        """Return the expression for the greater of two."""
        return getattr(fn, self.greatest)(one, other)

    def is_set(self, flag: Field[Any]) -> Any:
        """Return the condition that matches the flag's index: the bare column."""
        return flag

    def is_set_too(self, flag: Field[Any], other: Any) -> Any:
        """Return what `is_set` does, in a subquery of a query in which `other`, the
        same flag, is set."""
        return self.is_set(flag)

    def index(self, flag: Field[Any], due: Field[Any]) -> Node:
        """Return the index that finds due rows: of pending rows only."""
        return peewee.ModelIndex(flag.model, (due,), where=flag)

    def inserted(self, field: Field[Any]) -> Node:
        """Return, for an upsert's update, the value that was to be inserted."""
        return peewee.EXCLUDED[field.column_name]

    def assigned(self, flag: Field[Any], value: Any) -> Any:
        """Return what the flag becomes, for expressions after it in one UPDATE."""
        return value

    def transaction(self, database: peewee.Database) -> Any:
        """Open a transaction for a worker: READ COMMITTED, where that can be said."""
        return database.atomic("READ COMMITTED")

    def at_read_committed(
        self, database: peewee.Database, statement: Callable[[], T]
    ) -> T:
        """Run `statement`; if another transaction was in its way, as where the role's
        default is stricter, once more in a transaction that is READ COMMITTED."""
        try:
            return statement()
        except peewee.OperationalError as error:
            if not self.is_conflict(error):
                raise
        with self.transaction(database):
            return statement()

    def has_lost(self, database: peewee.Database) -> bool:
        """Say whether the connection of this thread has turned out to be dead."""
        return not database.is_connection_usable()

    def is_conflict(self, error: Exception) -> bool:
        """Say whether a transaction failed because another one was in its way."""
        raise NotImplementedError

    def is_busy(self, error: Exception) -> bool:
        """Say whether a lock was refused, and may be got by trying again."""
        return self.is_conflict(error)

    def is_inside(self, connection: Any) -> bool:
        """Say whether the driver's `connection` has a transaction open."""
        raise NotImplementedError

    def rolled_back(self, database: peewee.Database) -> bool:
        """Roll back the transaction that this thread has open, if it has one.

        Returns:
            True if it had: then it has no connection either, until the next use.
        """
        if database.is_closed():
            return False
        if not (database.in_transaction() or self.is_inside(database.connection())):
            return False
        while database.in_transaction():
            database.pop_transaction()
        database.close()
        return True

    def picking(
        self, update: ModelUpdate, where: Any, order_by: Field[Any], limit: Any
    ) -> Picking:
        """Prepare `update` of the first `limit` rows of `where` that nobody has locked.

        Returns:
            What runs it and returns the changed rows, as they are now, in no order.
        """
        raise NotImplementedError

    def each(
        self,
        model: type[Model],
        changes: dict[Any, Any],
        fields: Sequence[Field[Any]],
        held_by: Field[Any],
    ) -> Each:
        """Prepare `changes` of many rows, in which `fields` get values of their own.

        It never waits: a row that another transaction has locked is passed over, and
        so is one in which `held_by` has another value than the one given.

        Returns:
            What runs it, with the values of the keys, of `held_by` and of `fields`
            by their names for each row, and returns which of them were changed.
        """
        mine = [f == blank(f.name, f) for f in (*keys_of(model), held_by)]
        assigned = {f: blank(f.name, f) for f in fields}
        one = Shape(ModelUpdate(model, changes | assigned).where(*mine))

        def run(values: Values) -> list[int]:
            rows = zip(*values.values(), strict=True)
            with self.transaction(model._meta.database):
                return [
                    nth
                    for nth, row in enumerate(rows)
                    if one.run(**dict(zip(values, row, strict=True))).rowcount
                ]

        return run

    def locked(self, query: Any) -> Any:
        """Return `query`, locking its rows for the transaction; those that another one
        has locked are left out."""
        return query.for_update(skip_locked=True)

    def in_order(
        self, flag: Field[Any], keys: Sequence[Field[Any]], own: dict[str, Field[Any]]
    ) -> list[Any]:
        """Return the indexes that tell, of rows with the same `keys`, which was marked
        first and which are held: of pending rows, and of held ones.

        Args:
            own: the flag's companions.
        """
        model = flag.model
        pending = peewee.ModelIndex(
            model, (*keys, own["at"], *keys_of(model)), where=flag
        )
        held = peewee.ModelIndex(model, keys, where=own["lease"].is_null(False))
        return named(flag, pending, held)

    def through(self, rows: Any, index: Any) -> Any:
        """Return `rows`, an alias of a model, as the source of a query that is to go
        through `index`, if the database has to be told."""
        return rows

    def among(self, update: ModelUpdate, keys: Any) -> ModelUpdate:
        """Return `update`, restricted to the rows whose keys the query selects."""
        return update.where(key_of(update.model).in_(keys))

    def returned(self, update: ModelUpdate) -> list[Any]:
        """Run `update` and return the changed rows, as they are now.

        Its condition must hold after the update as well as before.
        """
        return list(update.returning(update.model).execute())

    @contextmanager
    def migration_lock(self, database: peewee.Database) -> Iterator[None]:
        """Connect, and let one process at a time migrate; the others wait."""
        raise NotImplementedError
        yield


def first_of(where: Any, order_by: Field[Any], limit: Any) -> Any:
    """Return the query for the keys of the first `limit` rows of `where`."""
    model = order_by.model
    return model.select(*keys_of(model)).where(where).order_by(order_by).limit(limit)


def named(flag: Field[Any], *indexes: Any) -> list[Node]:
    """Return `indexes` by names of their own: peewee's might be the application's."""
    table = flag.model._meta.table_name
    for index, word in zip(indexes, ("order", "held"), strict=True):
        name = re.sub(r"\W+", "_", f"{table}_{flag.column_name}_{word}")
        digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:7]
        index._name = name if len(name) < _LONG_NAME else f"{name[:50]}_{digest}"
    return list(indexes)


def told(database: peewee.Database, question: str, about: Any) -> Any:
    """Return the one value that `question` has for an answer."""
    ((answer,),) = database.execute_sql(question, (about,)).fetchall()
    return answer
