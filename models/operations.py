"""What operating needs to be remembered: three small tables of the default database.

`pending migrate` makes them. The work goes on without them: only pauses, heartbeats
and numbers of the past are missed. Times are ms by the database's clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import peewee
from peewee import (
    BigIntegerField,
    CharField,
    CompositeKey,
    IntegerField,
    Model,
    TextField,
)

from .connection import database, resolved
from .dialects import Dialect, dialect_of

#: In the place of a flag's label: all flags.
ALL = "*"


class Operational(Model):
    """A table of this module."""

    class Meta:
        database = database
        legacy_table_names = False


class Pause(Operational):
    """No row of `flag` (or of any, for `ALL`) is claimed before `until`, or at all."""

    flag = CharField(max_length=255, primary_key=True)
    until = BigIntegerField(null=True)
    reason = TextField()
    by = CharField(max_length=255)
    at = BigIntegerField()

    class Meta:
        table_name = "pending_pause"


class Heartbeat(Operational):
    """A process: what it is, when it was last seen, and when it last did something.

    Attributes:
        kind: "worker", so far.
        flags: JSON: the labels that it has handlers for, and how many rows it is at.
        looked: its last look for due rows.
        drained: its last claim, or end of one.
    """

    id = CharField(max_length=64, primary_key=True)
    host = CharField(max_length=255)
    pid = IntegerField()
    kind = CharField(max_length=16)
    threads = IntegerField()
    flags = TextField()
    started = BigIntegerField()
    seen = BigIntegerField()
    looked = BigIntegerField(null=True)
    drained = BigIntegerField(null=True)

    class Meta:
        table_name = "pending_worker"


class Count(Operational):
    """How often `name` happened to `flag` in a minute since the epoch; the minute 0
    has the totals of all times."""

    flag = CharField(max_length=255)
    minute = IntegerField()
    name = CharField(max_length=64)
    n = BigIntegerField()

    class Meta:
        table_name = "pending_count"
        primary_key = CompositeKey("flag", "minute", "name")


TABLES: tuple[type[Operational], ...] = (Pause, Heartbeat, Count)


def missing_tables() -> list[str]:
    """Return the names of the tables that `pending migrate` would make.

    Raises:
        peewee.PeeweeException: the database cannot be asked.
    """
    return [t._meta.table_name for t in TABLES if not t.table_exists()]


def making(names: Iterable[str]) -> list[str]:
    """Return the statements that make the tables called `names`."""
    made: list[Any] = [t for t in TABLES if t._meta.table_name in set(names)]
    return [t._schema._create_table(safe=False).query()[0] for t in made]


def refusals() -> dict[str, str]:
    """Return what the database says against our changing its tables, by their names:
    planned, not done.

    Raises:
        peewee.PeeweeException: the database cannot be asked.
    """
    found = {t._meta.table_name: _refusal(t) for t in TABLES if t.table_exists()}
    return {name: reason for name, reason in found.items() if reason}


def _refusal(table: type[Operational]) -> str:
    fields = table._meta.sorted_fields
    changes = (
        table.insert_from(table.select(), fields),
        table.update({fields[0]: fields[0]}),
        table.delete(),
    )
    try:
        for sql, parameters in (change.sql() for change in changes):
            the_database().execute_sql(f"EXPLAIN {sql}", parameters)
    except (peewee.DatabaseError, peewee.InterfaceError) as error:
        return str(error).strip().partition("\n")[0]
    return ""


def dialect() -> Dialect:
    """Return the dialect of the database that the tables are in."""
    return dialect_of(the_database())


def the_database() -> peewee.Database:
    """Return the database that the tables are in."""
    return resolved(Pause._meta.database)


def now() -> int:
    """Return that database's clock, ms."""
    query = peewee.Select((), (dialect().now,)).bind(the_database())
    ((moment,),) = query.tuples()
    return int(moment)


def upsert(
    table: type[Operational], rows: list[dict[Any, Any]], update: dict[Any, Any]
) -> None:
    """Insert `rows`; where one has a key that is there already, `update` that one.

    The rows are locked in the order of their keys, so that two processes never
    deadlock.

    Args:
        update: fields to expressions, which may read `inserted(field)`.
    """
    keys = table._meta.get_primary_keys()
    ordered = sorted(rows, key=lambda row: [row[key] for key in keys])
    insert = table.insert_many(ordered)
    if isinstance(the_database(), peewee.MySQLDatabase):
        insert.on_conflict(update=update).execute()
    else:
        insert.on_conflict(conflict_target=keys, update=update).execute()


def inserted(field: Any) -> Any:
    """Return, for an upsert's update, the value that was to be inserted."""
    return dialect().inserted(field)
