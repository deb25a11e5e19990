"""The Peewee database that `DATABASE_URL` names.

Nothing connects at import. Each kind of database gets the options without which
the flags are slow or wrong: a pool that replaces dead connections, SQLite's WAL
with write locks taken up front, MySQL's count of found (not changed) rows.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import peewee
from playhouse import db_url

from .errors import BadSetting

_ROOT = Path(__file__).resolve().parent.parent

#: Where things made at run time live: in a clone beside the code, else in the
#: folder the process was started in. Made when first needed.
VAR = (_ROOT if (_ROOT / "pyproject.toml").is_file() else Path.cwd()) / "var"

_CONNECT_SECONDS = 5
_BUSY_SECONDS = 10  # SQLite: how long a writer waits for another one

_POOLED = {
    "sqlite": "sqlite",
    "postgres": "postgresql+pool",
    "postgresql": "postgresql+pool",
    "mysql": "mysql+pool",
    "mariadb": "mysql+pool",
}


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
    """
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


def masked(url: str) -> str:
    """Return `url`, whatever its form, with its password hidden, fit for logs."""
    url = re.sub(r"(://[^:@/?]*):.*@", r"\1:***@", url)
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
    options: dict[str, Any] = {
        "prefer_psycopg3": True,
        "connect_timeout": _CONNECT_SECONDS,
        "max_connections": 0,  # as many as there are threads
    }
    if _importable("psycopg"):
        # Else it prepares by itself what it sees often, which a pooler in
        # transaction mode, and a column that is added, make fail.
        options["prepare_threshold"] = None
    return options


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
    "postgresql+pool": _postgresql_options,
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


def _default_url() -> str:
    VAR.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{VAR / 'pending.db'}"


database = database_from_url(os.environ.get("DATABASE_URL") or _default_url())

# A child that goes on with its parent's sockets breaks both.
os.register_at_fork(after_in_child=database.dispose)
