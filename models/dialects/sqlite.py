"""SQLite."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import peewee
from peewee import SQL, Field, ModelUpdate

from ..shapes import Shape
from .base import Dialect, Picking, first_of


class Sqlite(Dialect):
    """One writer at a time: every statement that writes locks the whole file."""

    now = SQL("CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)")
    greatest = "MAX"

    def transaction(self, database: peewee.Database) -> Any:
        return database.atomic("IMMEDIATE")

    def locked(self, query: Any) -> Any:
        return query

    def is_conflict(self, error: Exception) -> bool:
        return "database is locked" in str(error)

    def is_inside(self, connection: Any) -> bool:
        return bool(connection.in_transaction)

    def picking(
        self, update: ModelUpdate, where: Any, order_by: Field[Any], limit: Any
    ) -> Picking:
        picked = self.among(update, first_of(where, order_by, limit))
        return Shape(picked.returning(update.model)).rows

    @contextmanager
    def migration_lock(self, database: peewee.Database) -> Iterator[None]:
        # Not a transaction: migrations switch foreign keys off, outside of one.
        with _opened(Path(f"{database.database}-migrating")) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Connected inside: of two processes that switch a new file to WAL at
            # once, one would be told that it is locked, without a wait.
            with database.connection_context():
                yield


def _opened(path: Path) -> IO[str]:
    try:
        return path.open("w")
    except OSError as error:
        raise peewee.OperationalError(str(error)) from None
