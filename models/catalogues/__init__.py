"""What a database says of a flag's table, and the statements that would mend it.

Reads the catalogues, and plans statements without running them; nothing is changed.
"""

from __future__ import annotations

import peewee

from ..flags import PendingFlag
from .base import Catalogue, Column, Finding, Index, Level, ddl_of, role_of, sql_of
from .mysql import MysqlCatalogue
from .postgresql import PostgresqlCatalogue
from .sqlite import SqliteCatalogue

__all__ = [
    "Catalogue",
    "Column",
    "Finding",
    "Index",
    "Level",
    "PostgresqlCatalogue",
    "SqliteCatalogue",
    "catalogue_of",
    "ddl_of",
    "role_of",
    "sql_of",
]


def catalogue_of(flag: PendingFlag) -> Catalogue:
    """Return what the flag's database says of its table."""
    for kind, catalogue in _CATALOGUES.items():
        if isinstance(flag.database, kind):
            return catalogue(flag)
    raise TypeError(f"flags do not work on {flag.database!r}")


_CATALOGUES: dict[type[peewee.Database], type[Catalogue]] = {
    peewee.SqliteDatabase: SqliteCatalogue,
    peewee.PostgresqlDatabase: PostgresqlCatalogue,
    peewee.MySQLDatabase: MysqlCatalogue,
}
