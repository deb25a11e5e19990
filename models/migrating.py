"""The schema, by playhouse.migrations: numbered scripts, each applied once."""

from __future__ import annotations

from pathlib import Path

import peewee
from playhouse.migrations import Runner

from .dialects import dialect_of

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
