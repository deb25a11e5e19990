"""An application's own database object in the place of the one of `DATABASE_URL`."""

from __future__ import annotations

import sys
from typing import Any

import peewee

from . import connection
from .dialects import dialect_of
from .finding import derived
from .operations import TABLES, Operational
from .rows import PendingModel


def use_database(database: peewee.Database | peewee.Proxy) -> None:
    """Make `database` the default one: of models that name no other, of the tables of
    operating, of `pending migrate`, and of `models.database` from now on.

    Call it where the object is made, before it is used; models that were defined
    earlier follow.

    Args:
        database: of SQLite, PostgreSQL or MySQL, pooled or not; or a DatabaseProxy,
            to be initialised by the time that a connection is needed.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(database, peewee.Proxy):
        dialect_of(database)
    if isinstance(database, peewee.SqliteDatabase) and _has_no_transactions(database):
        raise TypeError(
            f"flags need transactions, and {type(database).__name__} has none; use"
            ' SqliteDatabase(…, pragmas={"journal_mode": "wal"}, lock_type="IMMEDIATE",'
            " timeout=10)"
        )
    former = connection.database
    for module in (connection, sys.modules[__package__]):
        module.database = database  # type: ignore[attr-defined]
    followers: list[Any] = [PendingModel, *derived(PendingModel), Operational, *TABLES]
    for model in followers:
        if model._meta.database is former:
            model._meta.set_database(database)


def _has_no_transactions(database: peewee.Database) -> bool:
    queued = sys.modules.get("playhouse.sqliteq")
    return queued is not None and isinstance(database, queued.SqliteQueueDatabase)
