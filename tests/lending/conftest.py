"""Each test is rolled back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lending import jobs, post
from lending.tables import TABLES, database


@pytest.fixture(scope="session", autouse=True)
def tables() -> Iterator[None]:
    assert jobs.greet
    with database.connection_context():
        database.create_tables(TABLES)
        yield


@pytest.fixture(autouse=True)
def rolled_back(tables: None) -> Iterator[None]:
    with database.atomic() as transaction:
        yield
        transaction.rollback()
    assert [table.select().count() for table in TABLES] == [0] * len(TABLES)


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was sent in this test."""
    texts: list[str] = []
    monkeypatch.setattr(post, "sent", texts)
    monkeypatch.setattr(post, "is_closed", False)
    return texts
