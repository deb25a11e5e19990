"""`DATABASE_URL`, and what every kind of database is told."""

from __future__ import annotations

import re
import sqlite3
import sys

import peewee
import pytest
from domain import Order
from playhouse.pool import PooledMySQLDatabase, PooledPostgresqlDatabase
from python import run_python

from models import BadSetting
from models.connection import connected, database_from_url, masked


def test_each_kind_of_url_gives_its_kind_of_database():
    kinds = {
        "sqlite:///file.db": peewee.SqliteDatabase,
        "postgres://host/name": PooledPostgresqlDatabase,
        "postgresql://host/name": PooledPostgresqlDatabase,
        "mysql://host/name": PooledMySQLDatabase,
        "mariadb://host/name": PooledMySQLDatabase,
    }
    for url, kind in kinds.items():
        assert isinstance(database_from_url(url), kind), url


def test_a_url_s_parts_reach_the_driver():
    url = "postgresql://d%40n:p%40ss%2Fw%3Ard@db.example:5433/shop?sslmode=require"
    database = database_from_url(url)
    assert database.database == "shop"
    assert database.connect_params == {
        "user": "d@n",
        "password": "p@ss/w:rd",
        "host": "db.example",
        "port": 5433,
        "sslmode": "require",
        "connect_timeout": 5,
    }


def test_the_url_s_own_parameters_come_before_ours():
    url = "postgresql://host/name?connect_timeout=30"
    assert database_from_url(url).connect_params["connect_timeout"] == 30
    assert database_from_url("sqlite:///file.db?timeout=3").timeout == 3


def test_sqlite_files_may_be_relative_or_absolute():
    assert database_from_url("sqlite:///file.db").database == "file.db"
    assert database_from_url("sqlite:////a/file.db").database == "/a/file.db"


def test_sqlite_writes_ahead_and_enforces_foreign_keys(tmp_path):
    database = database_from_url(f"sqlite:///{tmp_path}/file.db")
    with connected(database):
        assert database.journal_mode == "wal"
        assert database.foreign_keys == 1


def test_nothing_connects_before_it_is_needed():
    assert database_from_url("postgresql://nowhere.invalid/name").is_closed()


@pytest.mark.parametrize("url", ["foo", "oracle://host/name", "sqlite:file.db", "://"])
def test_what_is_no_database_url_is_refused(url):
    message = (
        f"DATABASE_URL: {url!r} is not a database URL; write sqlite:///file.db,"
        " postgresql://user:password@host/name or mysql://user:password@host/name"
    )
    with pytest.raises(BadSetting, match=f"^{re.escape(message)}$"):
        database_from_url(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite://", "sqlite://"),
        ("sqlite:///", "sqlite:///"),
        ("sqlite://file.db", "sqlite://file.db"),
        ("sqlite://folder/file.db", "sqlite://folder/file.db"),
        ("postgresql://host", "postgresql://host"),
        ("postgres://dan:secret@host/", "postgres://dan:***@host/"),
        ("mysql://dan:secret@host", "mysql://dan:***@host"),
    ],
)
def test_a_url_without_a_database_is_refused_and_shows_no_password(url, shown):
    message = (
        f"DATABASE_URL: '{shown}' names no database; write sqlite:///file.db with"
        " three slashes, or postgresql://host/name"
    )
    with pytest.raises(BadSetting, match=f"^{re.escape(message)}$"):
        database_from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://dan:secret@host:port/name",
        "postgresql://dan:secret@host:99999/name",
        "postgresql://dan:secret/secret@host/name",
        "postgresql://dan:secret@[::1/name",
    ],
)
def test_a_wrong_host_or_port_is_refused_and_shows_no_password(url):
    shown = re.sub("secret.*@", "***@", url)
    message = (
        f"DATABASE_URL: '{shown}' has a wrong host or port; in a password write"
        " : as %3A, / as %2F and @ as %40"
    )
    with pytest.raises(BadSetting, match=f"^{re.escape(message)}$"):
        database_from_url(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///file.db", "sqlite:///file.db"),
        ("postgresql://host:5432/name", "postgresql://host:5432/name"),
        ("postgresql://dan@host/name", "postgresql://dan@host/name"),
        ("postgresql://dan:a%40b@host/name", "postgresql://dan:***@host/name"),
        ("mysql://dan:dan@dan/dan", "mysql://dan:***@dan/dan"),
        ("mysql://dan:a:b@c@host/name", "mysql://dan:***@host/name"),
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("mysql://h/n?password=secret&ssl=1", "mysql://h/n?password=***&ssl=1"),
        ("postgres:/dan:secret@host/name", "postgres:***@host/name"),
        ("dan:secret@host/name", "dan:***@host/name"),
        ("foo", "foo"),
    ],
)
def test_a_masked_url_has_no_password(url, shown):
    assert masked(url) == shown


@pytest.mark.parametrize(
    ("url", "modules", "package"),
    [
        ("postgresql://host/name", ["psycopg", "psycopg2"], "psycopg[binary]"),
        ("mysql://host/name", ["pymysql"], "PyMySQL"),
    ],
)
def test_a_missing_driver_is_named_with_what_to_install(
    monkeypatch, url, modules, package
):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    message = f"DATABASE_URL: its driver is missing; pip install '{package}'"
    with pytest.raises(BadSetting, match=f"^{re.escape(message)}$"):
        database_from_url(url)


def test_a_sqlite_that_is_too_old_is_refused(monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    message = r"^DATABASE_URL: SQLite 3\.34\.1 knows no RETURNING; 3\.35 does$"
    with pytest.raises(BadSetting, match=message):
        database_from_url("sqlite:///file.db")


# Processes.


@pytest.mark.parametrize("url", ["foo", "sqlite://file.db", "mysql://u:secret@h"])
def test_a_wrong_setting_ends_the_process_with_one_line(url):
    ended = run_python("import models", DATABASE_URL=url)
    (line,) = ended.stderr.splitlines()
    assert line.startswith("DATABASE_URL: ")
    assert "secret" not in line
    assert (ended.returncode, ended.stdout) == (1, "")


def test_a_wrong_setting_passes_by_whoever_catches_exceptions():
    assert issubclass(BadSetting, SystemExit)
    assert not issubclass(BadSetting, Exception)


def test_the_models_bring_in_neither_worker_nor_broker_nor_clock():
    code = (
        "import models, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    )
    ended = run_python(code)
    assert ended.stderr == ""
    imported = set(ended.stdout.split())
    assert "peewee" in imported
    assert not imported & {"worker", "dramatiq", "redis", "periodiq", "click"}


def test_importing_the_models_makes_no_database(tmp_path):
    ended = run_python("import models", DATABASE_URL=f"sqlite:///{tmp_path}/new.db")
    assert (ended.returncode, list(tmp_path.iterdir())) == (0, [])


# Connections.


def test_an_update_counts_the_rows_it_found_changed_or_not(database):
    """By itself MySQL counts what changed: a lease that holds would look lost."""
    Order.create(total=1)
    assert [Order.update(total=1).execute() for _ in range(2)] == [1, 1]


def test_a_connection_is_held_for_the_block_and_given_back(database):
    database.close()
    with connected(database):
        assert not database.is_closed()
        Order.create()
    assert database.is_closed()


def test_a_block_bears_that_its_connection_is_closed_inside(database):
    database.close()
    with connected(database):
        database.close()
        Order.create()
        database.close()
    assert database.is_closed()


def test_a_block_gives_its_connection_back_when_it_fails(database):
    database.close()
    with pytest.raises(LookupError), connected(database):
        raise LookupError
    assert database.is_closed()


def test_a_block_may_stand_where_a_connection_is_open_already(database):
    with connected(database):
        assert Order.select().count() == 0
