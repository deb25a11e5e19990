"""A limit on how long the database may take: for pages, not for work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import peewee

from .connection import borrowed

_STEPS = 10_000  # of SQLite's virtual machine, between two looks at the clock


@contextmanager
def limited(database: peewee.Database, *, seconds: float) -> Iterator[None]:
    """Let no query of this thread on `database` take longer than `seconds`.

    The server ends such a query, and it raises: a server that answers nothing at all
    is not bound by it.

    Raises:
        peewee.OperationalError, peewee.DatabaseError: a query took longer.
    """
    kinds = {
        peewee.SqliteDatabase: _sqlite,
        peewee.PostgresqlDatabase: _postgresql,
        peewee.MySQLDatabase: _mysql,
    }
    with borrowed(database):
        for kind, limit in kinds.items():
            if isinstance(database, kind):
                with limit(database, seconds):
                    yield
                return
        yield


@contextmanager
def _sqlite(database: peewee.Database, seconds: float) -> Iterator[None]:
    over, connection = time.monotonic() + seconds, database.connection()
    connection.set_progress_handler(lambda: time.monotonic() > over, _STEPS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


@contextmanager
def _postgresql(database: peewee.Database, seconds: float) -> Iterator[None]:
    database.execute_sql(f"SET statement_timeout = {round(seconds * 1000)}")
    try:
        yield
    finally:
        undone(database, "RESET statement_timeout")


@contextmanager
def _mysql(database: peewee.Database, seconds: float) -> Iterator[None]:
    ((version,),) = database.execute_sql("SELECT version()").fetchall()
    if "MariaDB" in version:
        name, limit = "max_statement_time", f"{seconds:.3f}"
    else:
        name, limit = "max_execution_time", f"{round(seconds * 1000)}"
    database.execute_sql(f"SET SESSION {name} = {limit}")
    try:
        yield
    finally:
        undone(database, f"SET SESSION {name} = DEFAULT")


def undone(database: peewee.Database, sql: str) -> None:
    """Take a setting of this thread's connection back, if it is there still."""
    # A connection that is lost takes its limit with it.
    with suppress(peewee.DatabaseError, peewee.InterfaceError):
        database.execute_sql(sql)
