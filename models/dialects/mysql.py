"""MySQL and MariaDB."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import peewee
from peewee import (
    SQL,
    Case,
    Entity,
    Field,
    Model,
    ModelUpdate,
    Node,
    NodeList,
    Tuple,
    fn,
)

from ..shapes import Shape, blank
from .base import Dialect, Each, Picking, Values, first_of, named, told
from .keys import key_names, key_of, key_values, keys_of

_PACKET = 2_000_000  # characters, of up to four bytes; some take two more on the way


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

        @_for_counts
        def shapes(count: int) -> tuple[Shape, Shape]:
            mine = _has_one_of(model, count)
            return Shape(update.where(mine)), Shape(model.select().where(mine))

        def run(**blanks: Any) -> list[Any]:
            # Not REPEATABLE READ: its gap locks would block the application's INSERTs.
            with self.transaction(model._meta.database):
                keys = [key_values(row) for row in locked.rows(**blanks)]
                if not keys:
                    return []
                change, read = shapes(len(keys))
                mine = _numbered(key_names(model), keys)
                change.run(**blanks, **mine)
                return read.rows(**mine)

        return run

    def each(
        self,
        model: type[Model],
        changes: dict[Any, Any],
        fields: Sequence[Field[Any]],
        held_by: Field[Any],
    ) -> Each:
        keys = key_names(model)
        names = [*keys, *(field.name for field in fields)]

        @_for_counts
        def locking(count: int) -> Shape:
            rows = model.select(*keys_of(model), held_by)
            rows = rows.where(_has_one_of(model, count))
            return Shape(rows.for_update(skip_locked=True))

        @_for_counts
        def changing(count: int) -> Shape:
            own = {field: _own_value(field, count) for field in fields}
            update = ModelUpdate(model, changes | own)
            return Shape(update.where(_has_one_of(model, count)))

        def locked(values: Values) -> list[int]:
            given = _rows(values, [*keys, held_by.name])
            blanks = _numbered(keys, _rows(values, keys))
            found = locking(len(given)).rows(**blanks)
            held = {(*key_values(row), getattr(row, held_by.name)) for row in found}
            return [nth for nth, one in enumerate(given) if one in held]

        def run(values: Values) -> list[int]:
            with self.transaction(model._meta.database):
                places = locked(values)
                rows = _rows(values, names)
                for some in _packets([rows[nth] for nth in places]):
                    changing(len(some)).run(**_numbered(names, some))
            return places

        return run

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


#: SQL depends on the number of rows that it is about; these are kept of it.
_for_counts = functools.lru_cache(maxsize=8)


def _rows(values: Values, names: Sequence[str]) -> list[tuple[Any, ...]]:
    return list(zip(*[values[name] for name in names], strict=True))


def _packets(rows: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    """Yield `rows` in parts that a statement has room for: the server takes 16 MB,
    unless told, and ends the connection for more."""
    part: list[Sequence[Any]] = []
    size = 0
    for row in rows:
        own = sum(len(value) for value in row if isinstance(value, str | bytes))
        if part and size + own > _PACKET:
            yield part
            part, size = [], 0
        part.append(row)
        size += own
    if part:
        yield part


def _numbered(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """Return the values of `rows`, in the order of `names`, by name and number."""
    return {
        f"{name} {nth}": value
        for nth, row in enumerate(rows)
        for name, value in zip(names, row, strict=True)
    }


def _blank(field: Field[Any], nth: int) -> Node:
    return blank(f"{field.name} {nth}", field)


def _key(model: type[Model], nth: int) -> Node:
    blanks = [_blank(field, nth) for field in keys_of(model)]
    return blanks[0] if len(blanks) == 1 else Tuple(*blanks)


def _has_one_of(model: type[Model], count: int) -> Any:
    """Return the condition that a row has one of `count` keys, which are blanks."""
    return key_of(model).in_([_key(model, nth) for nth in range(count)])


def _own_value(field: Field[Any], count: int) -> Node:
    """Return what each of `count` rows is to have in `field`, all of it blanks."""
    model = field.model
    which = [(key_of(model) == _key(model, nth), nth) for nth in range(count)]
    return Case(None, [(is_it, _blank(field, nth)) for is_it, nth in which])
