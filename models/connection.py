"""The Peewee database that `DATABASE_URL` names.

Nothing connects at import. Each kind of database gets the options without which
the flags are slow or wrong: a pool that replaces dead connections, SQLite's WAL
with write locks taken up front, MySQL's count of found (not changed) rows.
"""

from __future__ import annotations

import os
import re
import select
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import peewee
from playhouse import db_url
from playhouse.pool import PooledPostgresqlDatabase

from .errors import BadSetting, DefinitionError

_ROOT = Path(__file__).resolve().parent.parent

#: Where things made at run time live: in a clone beside the code, else in the
#: folder the process was started in. Made when first needed.
VAR = (_ROOT if (_ROOT / "pyproject.toml").is_file() else Path.cwd()) / "var"

_CONNECT_SECONDS = 5
_PREPARED_AFTER = 1  # uses, on a connection
_TRUSTED_SECONDS = 5  # a connection that was in use so recently
_BUSY_SECONDS = 10  # SQLite: how long a writer waits for another one

_POOLED = {
    "sqlite": "sqlite",
    "postgres": "postgresql+prepared",
    "postgresql": "postgresql+prepared",
    "mysql": "mysql+pool",
    "mariadb": "mysql+pool",
}


class _PreparingAdapter(peewee.Psycopg3Adapter):
    """Statements that are seen again are prepared, where the server itself keeps them:
    a pooler may give the next transaction another connection, which knows none.

    A pooler has to make up what its clients cancel queries with, so it is told from
    the server by the process that this names.
    """

    def connect(self, db: peewee.Database, **params: Any) -> Any:
        connection = super().connect(db, **params)
        if "prepare_threshold" not in params:
            try:
                is_direct = _is_direct(connection)
            except BaseException:
                connection.close()
                raise
            connection.prepare_threshold = _PREPARED_AFTER if is_direct else None
        return connection


def _is_direct(connection: Any) -> bool:
    connection.autocommit = True
    row = connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    return bool(row[0] == connection.info.backend_pid)


class PreparedPostgresqlDatabase(PooledPostgresqlDatabase):
    """A pool of connections to PostgreSQL that prepare their statements."""

    psycopg3_adapter = _PreparingAdapter

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._idle_since: dict[int, float] = {}
        super().__init__(*args, **kwargs)

    def _can_reuse(self, conn: Any) -> bool:
        self._idle_since[id(conn)] = time.monotonic()
        return super()._can_reuse(conn)

    def _is_closed(self, conn: Any) -> bool:
        """Ask the server, unless it has had no time to be gone in silence: when it ends
        a connection, there is something to be read."""
        idle = time.monotonic() - self._idle_since.pop(id(conn), 0)
        if idle < _TRUSTED_SECONDS and not conn.closed and not _is_readable(conn):
            return False
        return super()._is_closed(conn)

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        try:
            return super().execute_sql(sql, params)
        except peewee.NotSupportedError:
            # It may be that a column has another type than when this was prepared. In
            # a transaction that is over with the rollback.
            prepares = getattr(self.connection(), "prepare_threshold", None) is not None
            if self.in_transaction() or not prepares:
                raise
            self.cursor().execute("DEALLOCATE ALL", prepare=False)
            return super().execute_sql(sql, params)


def _is_readable(connection: Any) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


db_url.register_database(PreparedPostgresqlDatabase, "postgresql+prepared")


def database_from_url(url: str) -> peewee.Database:
    """Return the database that `url` names, not yet connected.

    Args:
        url: `sqlite:///file.db`, `postgresql://user:password@host:5432/name` or
            `mysql://…`. Query parameters go to the driver, before our own.

    Raises:
        BadSetting: the URL names no database that can be used.
    """
    scheme, colon, rest = url.partition("://")
    if not colon or scheme not in _POOLED:
        raise BadSetting(
            "DATABASE_URL",
            f"{masked(url)!r} is not a database URL; write"
            " sqlite:///file.db, postgresql://user:password@host/name"
            " or mysql://user:password@host/name",
        )
    target = f"{_POOLED[scheme]}://{rest}"
    given = _parsed(url, target)
    options: dict[str, Any] = _OPTIONS[_POOLED[scheme]]()
    return db_url.connect(
        target,
        unquote_password=True,
        unquote_user=True,
        **{name: value for name, value in options.items() if name not in given},
    )


def _parsed(url: str, target: str) -> dict[str, Any]:
    # Nothing of the parser's own words: they may quote a part of the password.
    try:
        parts, given = urlsplit(target), db_url.parse(target)
    except ValueError:
        raise BadSetting(
            "DATABASE_URL",
            f"{masked(url)!r} has a wrong host or port; in a password write"
            " : as %3A, / as %2F and @ as %40",
        ) from None
    is_file = parts.scheme == "sqlite"
    if not parts.path.strip("/") or (is_file and parts.netloc):
        raise BadSetting(
            "DATABASE_URL",
            f"{masked(url)!r} names no database; write sqlite:///file.db with three"
            " slashes, or postgresql://host/name",
        )
    return given


@contextmanager
def connected(database: peewee.Database) -> Iterator[None]:
    """Hold a connection of this thread; a pool has made sure that it works.

    Unlike peewee's `connection_context()` it bears that the code inside closes
    the connection.

    Raises:
        DefinitionError: it is a database that only an event loop can use.
    """
    if is_async(database):
        raise DefinitionError(
            f"{type(database).__name__} works in an event loop alone, and this is a"
            " plain thread, as in a worker; give the model both:"
            " database = AwaitableDatabase(plain, awaited)"
        )
    database.connect(reuse_if_open=True)
    try:
        yield
    finally:
        database.close()


@contextmanager
def borrowed(database: peewee.Database) -> Iterator[None]:
    """Use this thread's connection if there is one, else hold one meanwhile."""
    if database.is_closed():
        with connected(database):
            yield
    else:
        yield


def is_async(database: Any) -> bool:
    """Say whether it is one of `playhouse.pwasyncio`, whose queries are awaited."""
    pwasyncio = sys.modules.get("playhouse.pwasyncio")  # it needs greenlet
    return pwasyncio is not None and isinstance(database, pwasyncio.AsyncDatabaseMixin)


def masked(url: str) -> str:
    """Return `url`, whatever its form, with its password hidden, fit for logs."""
    user = r"(://[^:@/?]*)" if "://" in url else "()"  # or it is written wrong
    url = re.sub(f"{user}:.*@", r"\1:***@", url)
    return re.sub(r"(\bpass(?:word|wd)=)[^&]*", r"\1***", url)


def _sqlite_options() -> dict[str, Any]:
    if sqlite3.sqlite_version_info < (3, 35):
        raise BadSetting(
            "DATABASE_URL",
            f"SQLite {sqlite3.sqlite_version} knows no RETURNING; 3.35 does",
        )
    return {
        "pragmas": {"journal_mode": "wal", "foreign_keys": 1},
        "lock_type": "IMMEDIATE",
        "timeout": _BUSY_SECONDS,
    }


def _postgresql_options() -> dict[str, Any]:
    if not (_importable("psycopg") or _importable("psycopg2")):
        raise _no_driver("psycopg[binary]")
    return {
        "prefer_psycopg3": True,
        "connect_timeout": _CONNECT_SECONDS,
        "max_connections": 0,  # as many as there are threads
    }


def _mysql_options() -> dict[str, Any]:
    if not _importable("pymysql"):
        raise _no_driver("PyMySQL")
    from pymysql.constants import CLIENT  # noqa: PLC0415 (an optional driver)

    return {
        "client_flag": CLIENT.FOUND_ROWS,
        "connect_timeout": _CONNECT_SECONDS,
        "max_connections": 0,
    }


_OPTIONS = {
    "sqlite": _sqlite_options,
    "postgresql+prepared": _postgresql_options,
    "mysql+pool": _mysql_options,
}


def _importable(module: str) -> bool:
    try:
        __import__(module)
    except ImportError:
        return False
    return True


def _no_driver(package: str) -> BadSetting:
    return BadSetting("DATABASE_URL", f"its driver is missing; pip install '{package}'")


class _LocalDatabase(peewee.SqliteDatabase):
    """A file under `var/`, which is made when it is needed."""

    def _connect(self) -> Any:
        VAR.mkdir(parents=True, exist_ok=True)
        return super()._connect()  # type: ignore[misc]


def _default() -> peewee.Database:
    url = os.environ.get("DATABASE_URL")
    if url:
        return database_from_url(url)
    return _LocalDatabase(str(VAR / "pending.db"), **_sqlite_options())


def resolved(database: Any) -> peewee.Database:
    """Return the database itself, of one that may be a proxy.

    Raises:
        BadSetting: a proxy that was not initialised.
    """
    if isinstance(database, peewee.Proxy):
        if database.obj is None:
            raise BadSetting(
                "the database",
                "your DatabaseProxy was not initialised; call its initialize() in a"
                " module that every process imports",
            )
        return resolved(database.obj)
    return database


def _dispose() -> None:
    if getattr(database, "obj", database) is not None:
        database.dispose()


#: The default one; `use_database()` puts another in its place, so ask for it late.
database: peewee.Database = _default()

# A child that goes on with its parent's sockets breaks both.
os.register_at_fork(after_in_child=_dispose)
