"""A shop for each test: an empty database, an empty outbox, an empty search."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

FOLDER = Path(tempfile.mkdtemp(prefix="shop-"))
os.environ["DATABASE_URL"] = f"sqlite:///{FOLDER / 'shop.db'}"
os.environ["OUTBOX"] = str(FOLDER / "outbox")
os.environ["SEARCH_FILE"] = str(FOLDER / "search.db")

import shutil  # noqa: E402

import pytest  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402
from shop import app, jobs, mail, models, search  # noqa: E402, F401 (jobs has handlers)

from models import database  # noqa: E402


@pytest.fixture(autouse=True)
def empty_shop():
    """The endpoints run in threads of their own, so there is nothing to roll back."""
    with database.connection_context():
        database.drop_tables(models.TABLES)
        database.create_tables(models.TABLES)
        yield
    search.FILE.unlink(missing_ok=True)
    shutil.rmtree(mail.OUTBOX, ignore_errors=True)


@pytest.fixture
def client():
    """A client of the shop."""
    with TestClient(app.app) as client:
        yield client


@pytest.fixture
def mails():
    """Return the mails that were sent, as texts."""
    return lambda: [path.read_text() for path in mail.OUTBOX.glob("*.eml")]


@pytest.fixture(scope="session", autouse=True)
def nothing_stays():
    yield
    shutil.rmtree(FOLDER)
