"""The schema, by playhouse.migrations: numbered scripts, each applied once."""

from __future__ import annotations

from pathlib import Path

import peewee
from peewee import Entity, Node
from playhouse.migrations import Runner

from .dialects import dialect_of
from .flags import PendingFlag

_SCRIPTS = Path(__file__).parent / "migrations"
_HISTORY = "pending_migration"  # not the default name: the application may use it


def migrate(database: peewee.Database) -> list[str]:
    """Bring the schema of `database` up to date; one process at a time, others wait.

    Returns:
        The names of the migrations that this call applied, in order; none if the
        schema was up to date.

    Raises:
        peewee.PeeweeException: a migration failed; it was rolled back where the
            database can (not on MySQL), and those before it stay applied.
    """
    with dialect_of(database).migration_lock(database):
        applied: list[str] = Runner(database, str(_SCRIPTS), _HISTORY).up()
        return applied


def add_flag(flag: PendingFlag) -> None:
    """Add the flag's columns and its index to the table of its model.

    Raises:
        peewee.PeeweeException: the table has one of them already, or is not there.
    """
    for field in (flag, *flag.companions.values()):
        _alter(flag, "ADD COLUMN", field.ddl(flag.database.get_sql_context()))
    schema = flag.model._schema
    flag.database.execute(schema._create_index(flag.dialect.index(flag, flag.due)))


def drop_flag(flag: PendingFlag) -> None:
    """Take the flag's index and its columns, with all that they hold, away again."""
    schema = flag.model._schema
    index = flag.dialect.index(flag, flag.due)
    if flag.database.safe_drop_index:  # MySQL drops it with its columns
        flag.database.execute(schema._drop_index(index, safe=True))
    for field in reversed((flag, *flag.companions.values())):
        _alter(flag, "DROP COLUMN", Entity(field.column_name))


def _alter(flag: PendingFlag, verb: str, what: Node) -> None:
    context = flag.database.get_sql_context()
    context.literal("ALTER TABLE ").sql(flag.model._meta.entity).literal(f" {verb} ")
    flag.database.execute_sql(*context.sql(what).query())
