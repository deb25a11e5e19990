"""A transaction that a test holds open, hidden from what runs inside of it.

On the stage a worker finds the database as ever: no transaction is open, its own
begin and commit, its connection closes. In truth they are savepoints, and
the connection stays; so the test can roll back all of it. What fails undoes itself
alone, as it would outside of a transaction.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar
from unittest import mock
from weakref import WeakValueDictionary

import peewee

from models import PendingFlag, marking
from models.committing import _waiting
from models.connection import borrowed
from models.dialects import Dialect, dialect_of
from models.loops import without_blocking

from ..failures import is_missing_table
from .steps import steps

T = TypeVar("T")

_HIDDEN = ("begin", "commit", "rollback", "close", "execute_sql")
_NO_WRITES = ("SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK", "SHOW", "PRAGMA", "SET")
_MOST_CHARACTERS = 60

_rolled_back = Dialect.rolled_back


class Stage:
    """A database whose open transaction this thread does not see in the block.

    Args:
        database: connected, in a transaction.
    """

    def __init__(self, database: peewee.Database) -> None:
        self.database = database
        self._execute: Callable[..., Any] = database.execute_sql
        self._is_begun = False
        # PostgreSQL refuses all that comes after an error in a transaction.
        self._is_fragile = isinstance(database, peewee.PostgresqlDatabase)
        self._patches = ExitStack()

    def __enter__(self) -> Self:
        state: Any = self.database._state  # type: ignore[attr-defined]
        self._outside = state.transactions, state.commit_callbacks
        state.transactions, state.commit_callbacks = [], []
        self._bells, _waiting.bells = _waiting.bells, WeakValueDictionary()
        for name in _HIDDEN:
            patch = mock.patch.object(self.database, name, self._here(name))
            self._patches.enter_context(patch)
        for owner, name, instead in (
            (Dialect, "rolled_back", _rolled_back_on_stage),
            (marking, "without_blocking", _blocking_on_stage),
        ):
            self._patches.enter_context(mock.patch.object(owner, name, instead))
        _stages[self.database] = self
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()
        del _stages[self.database]
        self._patches.close()
        state: Any = self.database._state  # type: ignore[attr-defined]
        state.transactions, state.commit_callbacks = self._outside
        _waiting.bells = self._bells

    def begin(self, *_: object, **__: object) -> None:
        steps.check()
        self._execute("SAVEPOINT pending_stage")
        self._is_begun = True

    def commit(self) -> None:
        steps.inside("before a COMMIT")
        steps.check()
        if self._is_begun:
            self._execute("RELEASE SAVEPOINT pending_stage")
            self._is_begun = False
        steps.inside("after a COMMIT")

    def rollback(self) -> None:
        if self._is_begun:
            self._execute("ROLLBACK TO SAVEPOINT pending_stage")
            self._execute("RELEASE SAVEPOINT pending_stage")
            self._is_begun = False

    def close(self) -> bool:
        return False

    def execute_sql(self, sql: str, *args: Any, **kwargs: Any) -> Any:
        steps.check()
        is_write = not sql.lstrip(" (").upper().startswith(_NO_WRITES)
        if is_write:
            steps.inside(f"before {_short(sql)}")
        if self._is_fragile and not self._is_begun:
            cursor = self._execute_alone(sql, *args, **kwargs)
        else:
            cursor = self._execute(sql, *args, **kwargs)
        if is_write and not self._is_begun:
            steps.inside(f"after {_short(sql)}")
        return cursor

    def undo(self) -> bool:
        """Roll back what was begun on the stage; say whether anything was."""
        state: Any = self.database._state  # type: ignore[attr-defined]
        was_open = self._is_begun or bool(state.transactions)
        state.transactions.clear()
        state.commit_callbacks.clear()
        self.rollback()
        return was_open

    def _execute_alone(self, sql: str, *args: Any, **kwargs: Any) -> Any:
        self._execute("SAVEPOINT pending_statement")
        try:
            cursor = self._execute(sql, *args, **kwargs)
        except peewee.PeeweeException:
            self._execute("ROLLBACK TO SAVEPOINT pending_statement")
            raise
        finally:
            self._execute("RELEASE SAVEPOINT pending_statement")
        return cursor

    def _here(self, name: str) -> Callable[..., Any]:
        """Return what `database.<name>` is to be; as ever in other threads."""
        here, elsewhere = getattr(self, name), getattr(self.database, name)
        thread = threading.get_ident()

        def either(*args: Any, **kwargs: Any) -> Any:
            is_here = threading.get_ident() == thread
            return (here if is_here else elsewhere)(*args, **kwargs)

        return either


_stages: dict[peewee.Database, Stage] = {}


@contextmanager
def staged(database: peewee.Database) -> Iterator[None]:
    """Hide the transaction that this thread has open, if it has one."""
    if database in _stages or not _is_inside(database):
        yield
    else:
        with Stage(database):
            yield


@contextmanager
def undone_afterwards(database: peewee.Database) -> Iterator[None]:
    """Leave `database` as it was before the block, which does not see how."""
    inner = "SAVEPOINT pending_scenario"
    with borrowed(database):
        if database in _stages:
            raise RuntimeError("a crash inside of a crash cannot be simulated")
        is_inside = _is_inside(database)
        if is_inside:
            database.execute_sql(inner)
        else:
            database.begin()
        try:
            with Stage(database):
                yield
        finally:
            if is_inside:
                database.execute_sql(f"ROLLBACK TO {inner}")
                database.execute_sql(f"RELEASE {inner}")
            else:
                database.rollback()


def undo(database: peewee.Database) -> None:
    """Roll back what a dead worker has begun and not committed."""
    dialect_of(database).rolled_back(database)


def is_there(flag: PendingFlag) -> bool:
    """Say whether the table of `flag` exists. No SQLite file is made by asking."""
    database = flag.database
    if database.deferred:
        return False
    if database.is_closed() and isinstance(database, peewee.SqliteDatabase):
        path = str(database.database)
        if not path.startswith("file:") and not Path(path).exists():
            return False
    with borrowed(database):
        try:
            return bool(flag.model.table_exists())
        except peewee.OperationalError as error:
            if not is_missing_table(error):  # SQLite: of a schema that is not attached
                raise
            return False


def name_of(flag: PendingFlag) -> str:
    """Return `<table>.<flag>`: the label without the name of a test's database."""
    return f"{flag.model._meta.table_name}.{flag.name}"


def _is_inside(database: peewee.Database) -> bool:
    if database.is_closed():
        return False
    dialect = dialect_of(database)
    return database.in_transaction() or dialect.is_inside(database.connection())


def _rolled_back_on_stage(dialect: Dialect, database: peewee.Database) -> bool:
    stage = _stages.get(database)
    return _rolled_back(dialect, database) if stage is None else stage.undo()


async def _blocking_on_stage(database: peewee.Database, function: Callable[[], T]) -> T:
    """Another thread would not see what is not committed."""
    if database in _stages:
        return function()
    return await without_blocking(database, function)


def _short(sql: str) -> str:
    line = " ".join(sql.split())
    return line if len(line) <= _MOST_CHARACTERS else f"{line[:_MOST_CHARACTERS]}…"
