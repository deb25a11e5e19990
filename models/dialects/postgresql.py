"""PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import peewee
from peewee import SQL, Entity, Field, Model, ModelUpdate, Node, NodeList, fn

from ..shapes import Shape, blank
from .base import Dialect, Each, Picking, Values, first_of, told
from .keys import key_of, keys_of

_NTH = "n th"  # of the rows given; no field has that name

_FROZEN_MS = "10000"

_MIGRATING = 7_336_463_101  # the advisory lock's number, chosen once at random
_POLL_SECONDS = 0.2  # how often somebody who waits asks whether it is free


class Postgresql(Dialect):
    """The claim picks in a CTE: as `IN (SELECT … LIMIT n)` a nested loop may run
    the subquery more than once and take more than n rows. NO KEY UPDATE, because
    FOR UPDATE skips rows whose children are being inserted."""

    role = "quote_ident(current_user)"
    now = SQL("(extract(epoch FROM statement_timestamp()) * 1000)::bigint")

    # Of those that keep what is dead from being cleaned up, and that the role may see.
    longest_transaction = (
        "SELECT extract(epoch FROM now() - since)::int, ending FROM ("
        "SELECT xact_start, 'SELECT pg_terminate_backend(' || pid || ')'"
        " FROM pg_stat_activity WHERE datname = current_database()"
        " AND coalesce(backend_xmin, backend_xid) IS NOT NULL UNION ALL "
        "SELECT prepared, 'ROLLBACK PREPARED ' || quote_literal(gid)"
        " FROM pg_prepared_xacts WHERE database = current_database()"
        ") AS open (since, ending) WHERE since IS NOT NULL ORDER BY since LIMIT 1"
    )

    # Room in each page for the versions that a row has while it is held: they need no
    # new entries in the indexes then.
    table_setting = " WITH (fillfactor = 70)"

    def is_conflict(self, error: Exception) -> bool:
        return _state(error) in {"40001", "40P01"}  # serialization failure, deadlock

    def is_busy(self, error: Exception) -> bool:
        return self.is_conflict(error) or _state(error) == "55P03"  # lock_timeout

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
        first = first_of(where, order_by, unseen)
        locked = first.for_update("FOR NO KEY UPDATE", skip_locked=True)
        # Here the planner may see it: else, where statistics know of many pending rows,
        # it would join a tenth of them, and read the whole table for each claim.
        few = locked.cte("few", materialized=True)
        names = [Entity("few", key.column_name) for key in keys_of(update.model)]
        picked = peewee.Select((few,), names).limit(limit).cte("picked")
        update = _of_picked(update, picked).with_cte(few, picked).where(_unhurried())
        return Shape(update.returning(update.model)).rows

    def locked(self, query: Any) -> Any:
        # A process that is frozen in its transaction would keep all others out.
        limit = fn.set_config("idle_in_transaction_session_timeout", _FROZEN_MS, True)
        return super().locked(query.select_extend(limit))

    def each(
        self,
        model: type[Model],
        changes: dict[Any, Any],
        fields: Sequence[Field[Any]],
        held_by: Field[Any],
    ) -> Each:
        own = (*keys_of(model), held_by)
        given = (*own, *fields)
        mine = [field == Entity("given", field.name) for field in own]
        new = [Entity("given", f.name).alias(f"new {f.name}") for f in fields]
        rows = model.select(Entity("given", _NTH), *keys_of(model), *new)
        rows = rows.from_(model, _as_table(model, given)).where(*mine)
        lock: Any = "FOR NO KEY UPDATE"
        locked = rows.for_update(lock, of=model, skip_locked=True)
        picked = locked.cte("picked", materialized=True)
        assigned = {f: Entity("picked", f"new {f.name}") for f in fields}
        update = _of_picked(ModelUpdate(model, changes | assigned), picked)
        shape = Shape(update.returning(Entity("picked", _NTH)))

        def run(values: Values) -> list[int]:
            arrays = {f.name: [f.db_value(v) for v in values[f.name]] for f in given}
            if any(isinstance(v, (list, tuple)) for a in arrays.values() for v in a):
                raise TypeError("an array of arrays would be taken for a longer one")
            blanks = {name: _as_written(array) for name, array in arrays.items()}
            return [nth - 1 for (nth,) in shape.run(**blanks).fetchall()]

        return run

    def among(self, update: ModelUpdate, keys: Any) -> ModelUpdate:
        # Locked in the order of the keys, so that two bulk marks never deadlock.
        own = keys_of(update.model)
        rows = update.model.select(*own).where(key_of(update.model).in_(keys))
        return _joined(update, rows.order_by(*own).for_update("FOR NO KEY UPDATE"))

    @contextmanager
    def migration_lock(self, database: peewee.Database) -> Iterator[None]:
        with database.connection_context():
            # Asked for again and again: who waits within one statement is waited for by
            # an index that is built concurrently.
            while not told(database, "SELECT pg_try_advisory_lock(%s)", _MIGRATING):
                time.sleep(_POLL_SECONDS)
            try:
                yield
            finally:
                database.execute_sql("SELECT pg_advisory_unlock(%s)", (_MIGRATING,))


def _state(error: Exception) -> str | None:
    cause = getattr(error, "orig", None)  # the driver's own error
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def _joined(update: ModelUpdate, rows: Any) -> ModelUpdate:
    return _of_picked(update, rows.cte("picked", materialized=True))


def _of_picked(update: ModelUpdate, picked: Any) -> ModelUpdate:
    same = (k == Entity("picked", k.column_name) for k in keys_of(update.model))
    return update.from_(picked).with_cte(picked).where(*same)


def _unhurried() -> Any:
    """A condition that holds, for its effect: the commit does not wait for the disk. A
    lease that the server forgets when it crashes is a row that is due."""
    # In a subquery, or it would be set anew for each row.
    setting = fn.set_config("synchronous_commit", "off", True)
    return peewee.Select(columns=[setting]) == "off"


def _as_table(model: type[Model], fields: Sequence[Field[Any]]) -> Node:
    """Arrays with a value for each row as a table: blanks named as `fields`, and the
    row's number from 1. It is one statement, however many rows there are.

    The planner does not see how many, or it would read a table of some ten thousand
    rows as a whole to find hundreds, and make a new plan for each statement.
    """
    arrays = [
        NodeList((SQL("(SELECT "), blank(field.name), SQL(f"::{kind}[])")), glue="")
        for field, kind in zip(fields, _types(model, fields), strict=True)
    ]
    names = [Entity(name) for name in (*(f.name for f in fields), _NTH)]
    given = NodeList((SQL("AS given"), peewee.EnclosedNodeList(names)), glue="")
    return NodeList((fn.UNNEST(*arrays), SQL("WITH ORDINALITY"), given))


def _as_written(array: list[Any]) -> Any:
    """Numbers as PostgreSQL writes them in arrays, which takes psycopg much longer."""
    if {type(value) for value in array} <= {int, float}:
        return f"{{{','.join(map(str, array))}}}"
    return array


def _types(model: type[Model], fields: Sequence[Field[Any]]) -> tuple[str, ...]:
    """Return the types of the table's columns, without their lengths: a cast to these
    would cut what the column refuses."""
    whole_row = NodeList((SQL("(NULL::"), model._meta.entity, SQL(")")), glue="")
    columns = [NodeList((whole_row, Entity(f.column_name)), ".") for f in fields]
    names = [fn.FORMAT_TYPE(fn.PG_TYPEOF(column), -1) for column in columns]
    database = model._meta.database
    return tuple(database.execute(peewee.Select(columns=names)).fetchone())
