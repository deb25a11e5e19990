"""What the database itself says, past the models, and the statements it was sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import peewee
import pytest
from peewee import SQL, NodeList

#: A row of nothing to do: what the server fills in by itself.
IDLE = SimpleNamespace(
    flag=False,
    at=0,
    due=0,
    attempts=0,
    crashes=0,
    until=0,
    lease=None,
    error=None,
)


def kind_of(database: peewee.Database) -> str:
    """Return "sqlite", "postgresql" or "mysql"."""
    if isinstance(database, peewee.SqliteDatabase):
        return "sqlite"
    return "postgresql" if isinstance(database, peewee.PostgresqlDatabase) else "mysql"


def only(*kinds: str) -> pytest.MarkDecorator:
    """Run a test on these kinds of databases: what it is about exists there alone."""
    return pytest.mark.parametrize("session_database", kinds, indirect=True)


def state(flag: Any, row: Any) -> SimpleNamespace:
    """Return the flag and its companions as the database has them, by suffix."""
    columns = {"flag": flag, **flag.companions}
    query = flag.model.select(*columns.values()).where(row._pk_expr())
    (values,) = query.tuples()
    return SimpleNamespace(**dict(zip(columns, values, strict=True)))


def is_freshly_marked(flag: Any, row: Any) -> bool:
    """Say whether the row holds a whole mark: named, due since then, not tried."""
    now = state(flag, row)
    return bool(now.flag and now.at > 0 and now.due > 0 and now.attempts == 0)


def write(flag: Any, row: Any, **values: Any) -> None:
    """Write companions as they are given: how time moves in tests."""
    changes = {getattr(flag, suffix): value for suffix, value in values.items()}
    peewee.ModelUpdate(flag.model, changes).where(row._pk_expr()).execute()


def now_of(database: peewee.Database, flag: Any) -> int:
    """Return the database's clock, ms."""
    return database.execute(NodeList((SQL("SELECT"), flag.dialect.now))).fetchone()[0]


def run_sql(database: peewee.Database, *parts: Any) -> Any:
    """Run raw SQL, of text and of peewee nodes such as `Entity("order")`."""
    nodes = [SQL(part) if isinstance(part, str) else part for part in parts]
    return database.execute(NodeList(nodes))


@contextmanager
def statements(database: peewee.Database) -> Iterator[list[str]]:
    """Collect the statements that `database` is sent, in every thread."""
    seen: list[str] = []

    def hook(event: Any) -> None:
        seen.append(event.sql)

    database.query_hooks.append(hook)
    try:
        yield seen
    finally:
        database.query_hooks.remove(hook)
