"""The schema, by playhouse.migrations: numbered scripts, each applied once.

This project's own, of the default database, and the application's: a folder of
scripts, such as `drafting` writes, for each database.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import peewee
from peewee import SQL, Entity, Field, Node
from playhouse.migrations import Migration, Runner

from . import example
from .altering import altered
from .dialects import dialect_of
from .errors import FlagError, StillPending
from .flags import PendingFlag

_SCRIPTS = Path(__file__).parent / "migrations"
_HISTORY = "pending_migration"  # not the default name: the application may use it
_HISTORY_OF_FLAGS = "pending_flag_migration"

#: What a table may lack beside columns.
CHECK, INDEX = "check", "index"


def migrate(database: peewee.Database) -> list[str]:
    """Bring the schema of `database` up to date; one process at a time, others wait.

    Returns:
        The names of the migrations that this call applied, in order; none if the
        schema was up to date.

    Raises:
        peewee.PeeweeException: a migration failed; it was rolled back where the
            database can (not on MySQL), and those before it stay applied.
    """
    return _applied(database, _Runner(database, str(_SCRIPTS), _HISTORY))


def migrate_flags(database: peewee.Database, folder: Path) -> list[str]:
    """Apply the application's scripts in `folder` to `database`, as `migrate` does.

    Raises:
        playhouse.migrations.MigrationError: one of them has no `up()`.
        peewee.PeeweeException: one failed. What `add_flag` and `drop_flag` did is not
            rolled back: the next call goes on from there.
    """
    runner = runner_of_flags(database, folder)
    return _applied(database, runner) if runner.migrations() else []


def waiting_for_flags(database: peewee.Database, folder: Path) -> list[str]:
    """Return the names of the scripts in `folder` that are still to be applied.

    Raises:
        peewee.PeeweeException: the database cannot be asked.
    """
    known = runner_of_flags(database, folder).status()
    return [one.name for one in known if not one.applied]


def roll_back_flags(
    database: peewee.Database, folder: Path, name: str | None
) -> list[str]:
    """Take back the script of `folder` that was applied last; or all down to `name`.

    Returns:
        The names of those that were taken back, in this order.

    Raises:
        playhouse.migrations.MigrationError: `name` is not applied, or a script is gone.
        peewee.PeeweeException, FlagError: a script failed; it can be run again.
    """
    runner = runner_of_flags(database, folder)
    with dialect_of(database).migration_lock(database):
        undone: list[str] = runner.down(name)
        return undone


def runner_of_flags(database: peewee.Database, folder: Path) -> Runner:
    """Return who runs the application's scripts in `folder`."""
    return Runner(database, str(folder), _HISTORY_OF_FLAGS)


def differences(database: peewee.Database) -> tuple[list[str], list[str]]:
    """Return the names of the migrations that are still to be applied, and of those
    that were applied and that no script here is for: a newer version's.

    Raises:
        peewee.PeeweeException: the database cannot be asked.
    """
    known = _Runner(database, str(_SCRIPTS), _HISTORY).status()
    waiting = [one.name for one in known if not one.applied]
    newer = [one.name for one in known if one.path is None]
    return waiting, [name for name in newer if name != example.SCRIPT]


class _Runner(Runner):
    """Runs the scripts, but not the example's where there is no example."""

    def migrations(self) -> list[Migration]:
        found: list[Migration] = super().migrations()
        if example.is_wanted():
            return found
        return [one for one in found if one.name != example.SCRIPT]


def add_flag(flag: PendingFlag) -> None:
    """Add what the table lacks of the flag's columns, CHECK and index.

    Nobody waits for it longer than moments (on SQLite: than each step takes), and
    what was stopped in the middle is brought to its end.

    Raises:
        FlagError: a transaction is open; or the table's engine knows none.
        peewee.PeeweeException: the table is not there, or was in use for ten minutes.
    """
    _outside_of_transactions(flag)
    table = altered(flag)
    table.add_columns()
    table.add_check()
    table.add_index()


def lacking(flag: PendingFlag) -> list[str]:
    """Return what `add_flag` would add: columns by their suffix (the flag's own has
    none), CHECK, INDEX; empty if nothing."""
    table = altered(flag)
    found = table.missing()
    if table.lacks_check():
        found.append(CHECK)
    if table.lacks_index():
        found.append(INDEX)
    return found


def drop_flag(
    flag: PendingFlag,
    *,
    only: Collection[str] | None = None,
    even_pending: bool = False,
) -> None:
    """Drop the flag's columns and its index; those that are gone already are no error.

    Args:
        only: companion columns by their suffix, and INDEX; default: all there is.
        even_pending: also while rows are pending, whose work is lost with it.

    Raises:
        StillPending: rows are pending; nothing was dropped.
        FlagError: a transaction is open.
        peewee.PeeweeException: the table was in use for ten minutes.
    """
    _outside_of_transactions(flag)
    table = altered(flag)
    columns = [
        f for suffix, f in flag.columns.items() if only is None or suffix in only
    ]
    if only is not None and INDEX in only:
        table.drop_index()
    checked = only is None and not even_pending and not table.missing()
    table.drop_columns(columns, after=lambda: _refuse_pending(flag, asked=checked))


def add_order(flag: PendingFlag, *fields: Field[Any]) -> None:
    """Add the indexes that a handler's `serialize_by=fields` needs.

    Raises:
        peewee.PeeweeException: the table has one of them already, or is not there.
    """
    for index in flag.dialect.in_order(flag, fields, flag.companions):
        flag.database.execute(flag.model._schema._create_index(index, safe=False))


def drop_order(flag: PendingFlag, *fields: Field[Any]) -> None:
    """Take the indexes of `serialize_by=fields` away again."""
    for index in flag.dialect.in_order(flag, fields, flag.companions):
        if flag.database.safe_drop_index:
            flag.database.execute(flag.model._schema._drop_index(index, safe=True))
        else:  # MySQL's belong to their table
            _alter(flag, "DROP INDEX", Entity(index._name))


def _refuse_pending(flag: PendingFlag, *, asked: bool) -> None:
    # Ordered, so that the index answers.
    first = flag.model.select(SQL("1")).where(flag.dialect.is_set(flag))
    if asked and list(first.order_by(flag.due).limit(1).tuples()):
        raise StillPending(
            f"rows of {flag.label} are pending, so it is not dropped; let workers"
            " finish them, or write drop_flag(…, even_pending=True)"
        )


def _outside_of_transactions(flag: PendingFlag) -> None:
    if flag.database.in_transaction():
        raise FlagError(
            f"{flag.label} is added and dropped step by step, not in a transaction;"
            " write `atomic = False` at the head of the script"
        )


def _applied(database: peewee.Database, runner: Runner) -> list[str]:
    with dialect_of(database).migration_lock(database):
        applied: list[str] = runner.up()
        return applied


def _alter(flag: PendingFlag, verb: str, what: Node) -> None:
    context = flag.database.get_sql_context()
    context.literal("ALTER TABLE ").sql(flag.model._meta.entity).literal(f" {verb} ")
    flag.database.execute_sql(*context.sql(what).query())
