"""MySQL and MariaDB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import peewee
from peewee import SQL, Entity, Field, Model, ModelUpdate, Node, NodeList, fn

from ..shapes import Shape
from .base import Dialect, Picking, first_of, named, told
from .keys import Key, has_key, key_values, keys_of


class Mysql(Dialect):
    """MySQL 8 and MariaDB 10.6: no UPDATE … RETURNING, no partial index, and an
    UPDATE may not select from its own table."""

    now = SQL("(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)")
    text = "CHAR"
    role = (
        "CONCAT(QUOTE(SUBSTRING_INDEX(CURRENT_USER(), '@', 1)), '@',"
        " QUOTE(SUBSTRING_INDEX(CURRENT_USER(), '@', -1)))"
    )
    longest_transaction = (
        "SELECT TIMESTAMPDIFF(SECOND, trx_started,"
        " CONVERT_TZ(NOW(), @@session.time_zone, 'SYSTEM')),"
        " CONCAT('KILL ', trx_mysql_thread_id)"
        " FROM information_schema.innodb_trx ORDER BY trx_started LIMIT 1"
    )

    def is_set(self, flag: Field[Any]) -> Any:
        return flag == True  # noqa: E712 (an equality, so that (x, x_due) is used)

    def is_set_too(self, flag: Field[Any], other: Any) -> Any:
        # With a constant in the place of `other` MariaDB may choose to read all that is
        # pending for each row of the query, namely after many were marked at once.
        return flag == other

    def index(self, flag: Field[Any], due: Field[Any]) -> Node:
        return peewee.ModelIndex(flag.model, (flag, due))

    def in_order(
        self, flag: Field[Any], keys: Sequence[Field[Any]], own: dict[str, Field[Any]]
    ) -> list[Any]:
        model = flag.model
        pending = peewee.ModelIndex(model, (flag, *keys, own["at"], *keys_of(model)))
        held = peewee.ModelIndex(model, (*keys, own["until"]))
        return named(flag, pending, held)

    def through(self, rows: Any, index: Any) -> Any:
        # As long as statistics know of nothing pending, the other indexes seem as good.
        meta = rows.model._meta
        there = {one.name for one in meta.database.get_indexes(meta.table_name)}
        if index._name not in there:
            return rows  # it would be an error
        return NodeList((rows, SQL("FORCE INDEX ("), Entity(index._name), SQL(")")))

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
        model, first = update.model, first_of(where, order_by, limit)
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

    def unlocked(self, model: type[Model], keys: Sequence[Key]) -> Iterable[int]:
        places = {key: nth for nth, key in enumerate(keys)}
        free = model.select(*keys_of(model)).where(has_key(model, *keys))
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
            while not told(database, "SELECT GET_LOCK(%s, 60)", name):
                pass
            try:
                yield
            finally:
                database.execute_sql("SELECT RELEASE_LOCK(%s)", (name,))
