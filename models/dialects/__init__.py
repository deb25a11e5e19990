"""What each kind of database does its own way, a module a kind.

Times are milliseconds since the epoch by the database's clock. `now` must be
stable within a statement, or the index on the due times is of no use.
"""

from __future__ import annotations

from collections.abc import Sequence

import peewee

from .base import Dialect, Each, Picking, Values
from .keys import Key, has_key, key_names, key_of, key_values, keys_of
from .mysql import Mysql
from .postgresql import Postgresql
from .sqlite import Sqlite

__all__ = [
    "Dialect",
    "Each",
    "Key",
    "Picking",
    "Values",
    "dialect_of",
    "has_key",
    "key_names",
    "key_of",
    "key_values",
    "keys_of",
]


def dialect_of(database: peewee.Database) -> Dialect:
    """Return the dialect that `database` speaks.

    Raises:
        TypeError: a kind of database that the flags were not made for.
    """
    for kind, dialect in _DIALECTS:
        if isinstance(database, kind):
            return dialect
    raise TypeError(f"flags work on SQLite, PostgreSQL and MySQL, not on {database!r}")


_DIALECTS: Sequence[tuple[type[peewee.Database], Dialect]] = (
    (peewee.SqliteDatabase, Sqlite()),
    (peewee.PostgresqlDatabase, Postgresql()),
    (peewee.MySQLDatabase, Mysql()),
)
