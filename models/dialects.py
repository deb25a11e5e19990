"""What each kind of database does its own way, in one place.

Times are milliseconds since the epoch by the database's clock. `now` must be
stable within a statement, or the index on the due times is of no use.
"""

from __future__ import annotations

import fcntl
import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import peewee
from peewee import SQL, Entity, Field, Model, ModelUpdate, Node, NodeList, Tuple, fn

from .shapes import RepeatedShape, Shape, blank

T = TypeVar("T")

Key = tuple[Any, ...]

#: Runs an UPDATE that was prepared, its blanks given by name; returns the changed rows.
Picking = Callable[..., list[Any]]

#: The values for one row, by the names of the blanks.
Values = dict[str, Any]

#: Runs an UPDATE that was prepared for many rows; returns the places of the changed.
Each = Callable[[Sequence[Values]], list[int]]

_NTH = "n th"  # of the rows given; no field has that name

_MIGRATING = 7_336_463_101  # the advisory lock's number, chosen once at random


class Dialect:
    """What is common; the subclasses say what differs."""

    now: SQL
    greatest = "GREATEST"
    table_setting = ""

    def greater(self, one: Any, other: Any) -> Node:
        """Return the expression for the greater of two."""
        return getattr(fn, self.greatest)(one, other)

    def is_set(self, flag: Field[Any]) -> Any:
        """Return the condition that matches the flag's index: the bare column."""
        return flag

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

        def run(rows: Sequence[Values]) -> list[int]:
            with self.transaction(model._meta.database):
                places = self.unlocked(model, rows)
                return [nth for nth in places if one.run(**rows[nth]).rowcount]

        return run

    def unlocked(self, model: type[Model], rows: Sequence[Values]) -> Iterable[int]:
        """Lock rows by the keys in their values; return which nobody else has."""
        return range(len(rows))

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


class Sqlite(Dialect):
    """One writer at a time: every statement that writes locks the whole file."""

    now = SQL("CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)")
    greatest = "MAX"

    def transaction(self, database: peewee.Database) -> Any:
        return database.atomic("IMMEDIATE")

    def is_conflict(self, error: Exception) -> bool:
        return "database is locked" in str(error)

    def is_inside(self, connection: Any) -> bool:
        return bool(connection.in_transaction)

    def picking(
        self, update: ModelUpdate, where: Any, order_by: Field[Any], limit: Any
    ) -> Picking:
        picked = self.among(update, _first(where, order_by, limit))
        return Shape(picked.returning(update.model)).rows

    @contextmanager
    def migration_lock(self, database: peewee.Database) -> Iterator[None]:
        # Not a transaction: migrations switch foreign keys off, outside of one.
        with _opened(Path(f"{database.database}-migrating")) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Connected inside: of two processes that switch a new file to WAL at
            # once, one would be told that it is locked, without a wait.
            with database.connection_context():
                yield


class Postgresql(Dialect):
    """The claim picks in a CTE: as `IN (SELECT … LIMIT n)` a nested loop may run
    the subquery more than once and take more than n rows. NO KEY UPDATE, because
    FOR UPDATE skips rows whose children are being inserted."""

    now = SQL("(extract(epoch FROM statement_timestamp()) * 1000)::bigint")

    # Room in each page for the versions that a row has while it is held: they need no
    # new entries in the indexes then.
    table_setting = " WITH (fillfactor = 70)"

    def is_conflict(self, error: Exception) -> bool:
        cause = getattr(error, "orig", None)  # the driver's own error
        state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
        return state in {"40001", "40P01"}  # serialization failure, deadlock

    def is_inside(self, connection: Any) -> bool:
        in_transaction, in_error = 2, 3  # libpq's numbers
        return connection.info.transaction_status in {in_transaction, in_error}

    def picking(
        self, update: ModelUpdate, where: Any, order_by: Field[Any], limit: Any
    ) -> Picking:
        # A limit that the planner cannot see makes it count on a tenth of the rows, so
        # it walks the index. Else it may sort all that is pending for each claim,
        # namely where a table's statistics are older than what was marked in bulk.
        unseen = NodeList((SQL("(SELECT"), limit, SQL(")")))
        first = _first(where, order_by, unseen)
        locked = first.for_update("FOR NO KEY UPDATE", skip_locked=True)
        picked = locked.cte("picked", materialized=True)
        update = _of_picked(update, picked, _unhurried())
        return Shape(update.returning(update.model)).rows

    def each(
        self,
        model: type[Model],
        changes: dict[Any, Any],
        fields: Sequence[Field[Any]],
        held_by: Field[Any],
    ) -> Each:
        keys = keys_of(model)
        given = _given(model, (*keys, held_by, *fields))
        mine = [field == Entity("given", field.name) for field in (*keys, held_by)]
        new = [Entity("given", f.name).alias(f"new {f.name}") for f in fields]
        rows = model.select(Entity("given", _NTH), *keys, *new)
        rows = rows.join(given, on=functools.reduce(operator.and_, mine))
        lock: Any = "FOR NO KEY UPDATE"
        locked = rows.for_update(lock, of=model, skip_locked=True)
        picked = locked.cte("picked", materialized=True)
        assigned = {f: Entity("picked", f"new {f.name}") for f in fields}
        update = _of_picked(ModelUpdate(model, changes | assigned), picked)
        shape = RepeatedShape(update.returning(Entity("picked", _NTH)))

        def run(rows: Sequence[Values]) -> list[int]:
            numbered = [{**row, _NTH: nth} for nth, row in enumerate(rows)]
            return [nth for (nth,) in shape.run_many(numbered).fetchall()]

        return run

    def among(self, update: ModelUpdate, keys: Any) -> ModelUpdate:
        # Locked in the order of the keys, so that two bulk marks never deadlock.
        own = keys_of(update.model)
        rows = update.model.select(*own).where(key_of(update.model).in_(keys))
        return _joined(update, rows.order_by(*own).for_update("FOR NO KEY UPDATE"))

    @contextmanager
    def migration_lock(self, database: peewee.Database) -> Iterator[None]:
        with database.connection_context():
            database.execute_sql("SELECT pg_advisory_lock(%s)", (_MIGRATING,))
            try:
                yield
            finally:
                database.execute_sql("SELECT pg_advisory_unlock(%s)", (_MIGRATING,))


class Mysql(Dialect):
    """MySQL 8 and MariaDB 10.6: no UPDATE … RETURNING, no partial index, and an
    UPDATE may not select from its own table."""

    now = SQL("(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)")

    def is_set(self, flag: Field[Any]) -> Any:
        return flag == True  # noqa: E712 (an equality, so that (x, x_due) is used)

    def index(self, flag: Field[Any], due: Field[Any]) -> Node:
        return peewee.ModelIndex(flag.model, (flag, due))

    def inserted(self, field: Field[Any]) -> Node:
        return fn.VALUES(Entity(field.column_name))

    def assigned(self, flag: Field[Any], value: Any) -> Any:
        return flag  # assigned from left to right: it is the new value already

    def has_lost(self, database: peewee.Database) -> bool:
        # Not peewee's, which connects anew and then says that all is well.
        return database.is_closed() or not database.connection().open

    def is_conflict(self, error: Exception) -> bool:
        return bool({1205, 1213} & set(error.args[:1]))  # lock wait, deadlock

    def is_inside(self, connection: Any) -> bool:
        return bool(connection.server_status & 1)  # SERVER_STATUS_IN_TRANS

    def picking(
        self, update: ModelUpdate, where: Any, order_by: Field[Any], limit: Any
    ) -> Picking:
        model, first = update.model, _first(where, order_by, limit)
        locked = Shape(first.for_update(skip_locked=True))

        def run(**blanks: Any) -> list[Any]:
            # Not REPEATABLE READ: its gap locks would block the application's INSERTs.
            with self.transaction(model._meta.database):
                keys = [key_values(row) for row in locked.rows(**blanks)]
                if not keys:
                    return []
                mine = has_key(model, *keys)
                Shape(update.where(mine)).run(**blanks)
                return list(model.select().where(mine))

        return run

    def unlocked(self, model: type[Model], rows: Sequence[Values]) -> Iterable[int]:
        own = keys_of(model)
        places = {tuple(row[f.name] for f in own): nth for nth, row in enumerate(rows)}
        free = model.select(*own).where(has_key(model, *places))
        locked: Any = free.for_update(skip_locked=True).tuples()
        return [places[key] for key in locked]

    def among(self, update: ModelUpdate, keys: Any) -> ModelUpdate:
        # DISTINCT keeps the optimizer from merging the derived table away.
        derived = peewee.Select((keys.alias("picked"),), (SQL("DISTINCT picked.*"),))
        return super().among(update, derived)

    def returned(self, update: Any) -> list[Any]:
        model = update.model
        with model._meta.database.atomic():
            changed = update.execute()
            return list(model.select().where(update._where)) if changed else []

    @contextmanager
    def migration_lock(self, database: peewee.Database) -> Iterator[None]:
        name = f"pending-migrating-{database.database}"[:64]
        with database.connection_context():
            database.execute_sql("SELECT GET_LOCK(%s, 3600)", (name,))
            try:
                yield
            finally:
                database.execute_sql("SELECT RELEASE_LOCK(%s)", (name,))


def dialect_of(database: peewee.Database) -> Dialect:
    """Return the dialect that `database` speaks.

    Raises:
        TypeError: a kind of database that the flags were not made for.
    """
    for kind, dialect in _DIALECTS:
        if isinstance(database, kind):
            return dialect
    raise TypeError(f"flags work on SQLite, PostgreSQL and MySQL, not on {database!r}")


_DIALECTS: Sequence[tuple[type[peewee.Database], Dialect]] = (
    (peewee.SqliteDatabase, Sqlite()),
    (peewee.PostgresqlDatabase, Postgresql()),
    (peewee.MySQLDatabase, Mysql()),
)


def keys_of(model: type[Model]) -> tuple[Field[Any], ...]:
    """Return the fields of the primary key, in its order."""
    return tuple(model._meta.get_primary_keys())


def key_of(model: type[Model]) -> Any:
    """Return the primary key as one expression: the field, or a row of fields."""
    fields = keys_of(model)
    return fields[0] if len(fields) == 1 else Tuple(*fields)


def key_values(row: Model) -> Key:
    """Return the values of the row's primary key, None for what it does not have."""
    return tuple([row.__data__.get(field.name) for field in keys_of(type(row))])


def has_key(model: type[Model], *keys: tuple[Any, ...]) -> Any:
    """Return the condition that a row has one of `keys`, each a tuple of values."""
    fields = keys_of(model)
    if len(fields) == 1 == len(keys):
        return fields[0] == keys[0][0]
    if len(fields) == 1:
        return fields[0].in_([key[0] for key in keys])
    values = (
        Tuple(*(f.to_value(v) for f, v in zip(fields, key, strict=True)))
        for key in keys
    )
    return Tuple(*fields).in_(list(values))


def _opened(path: Path) -> IO[str]:
    try:
        return path.open("w")
    except OSError as error:
        raise peewee.OperationalError(str(error)) from None


def _first(where: Any, order_by: Field[Any], limit: Any) -> Any:
    model = order_by.model
    return model.select(*keys_of(model)).where(where).order_by(order_by).limit(limit)


def _joined(update: ModelUpdate, rows: Any) -> ModelUpdate:
    return _of_picked(update, rows.cte("picked", materialized=True))


def _of_picked(update: ModelUpdate, picked: Any, *others: Any) -> ModelUpdate:
    same = (k == Entity("picked", k.column_name) for k in keys_of(update.model))
    return update.from_(picked, *others).with_cte(picked).where(*same)


def _unhurried() -> Any:
    """A source without use but for its effect: the commit does not wait for the disk. A
    lease that the server forgets when it crashes is a row that is due."""
    setting = fn.set_config("synchronous_commit", "off", True)
    return peewee.Select(columns=[setting]).alias("unhurried")


def _given(model: type[Model], fields: Sequence[Field[Any]]) -> peewee.ValuesList:
    """A row of blanks as a table: its number, then `fields`. COALESCE with a NULL of
    the column gives the column's type to what the driver sends without one."""
    empty = NodeList((SQL("(NULL::"), model._meta.entity, SQL(")")), glue="")
    cells: list[Node] = [
        fn.COALESCE(NodeList((empty, Entity(f.column_name)), "."), blank(f.name, f))
        for f in fields
    ]
    cells[-1] = NodeList((cells[-1], SQL(RepeatedShape.MORE)))
    names = [_NTH, *(field.name for field in fields)]
    return peewee.ValuesList([[blank(_NTH), *cells]], columns=names, alias="given")
