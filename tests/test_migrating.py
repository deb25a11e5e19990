"""The schema's numbered scripts, on every database."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import peewee
import pytest
from looking import IDLE, kind_of, run_sql, state
from peewee import Entity
from playhouse.migrations import Runner
from playhouse.pool import PooledDatabase
from steps import claim_one

from models import User, migrating
from models.connection import database_from_url
from models.finishing import finish
from models.migrating import migrate
from models.operations import TABLES

OPERATIONS = {table._meta.table_name for table in TABLES}

MIGRATE = """
import models
from models.migrating import migrate
print("ready", flush=True)
input()
print(migrate(models.database))
"""


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def new_url(request, server_url):
    """Make the URL of an empty database."""
    return lambda: server_url(request.param)


@pytest.fixture
def new_database(new_url):
    """Make an empty database; its connections are closed afterwards."""
    made = []

    def make():
        made.append(database_from_url(new_url()))
        return made[-1]

    yield make
    for database in made:
        database.close()
        if isinstance(database, PooledDatabase):
            database.close_idle()


@pytest.fixture
def empty(new_database):
    return new_database()


def definition(database):
    """What the database says of the table: columns, defaults, checks, indexes."""
    kind = kind_of(database)
    if kind == "sqlite":
        query = "SELECT sql FROM sqlite_master WHERE tbl_name = 'user' ORDER BY name"
    elif kind == "mysql":
        query = "SHOW CREATE TABLE `user`"
    else:
        query = """
            SELECT pg_get_constraintdef(oid) FROM pg_constraint
            WHERE conrelid = '"user"'::regclass ORDER BY 1
        """
    return (
        database.execute_sql(query).fetchall(),
        database.get_columns("user"),
        sorted(database.get_indexes("user")),
    )


def test_migrating_makes_the_schema_and_again_does_nothing(empty):
    assert migrate(empty) == ["0001_users", "0002_operations"]
    assert migrate(empty) == []
    assert set(empty.get_tables()) == {"user", "pending_migration", *OPERATIONS}


def test_the_migrated_schema_is_that_of_the_models(new_database):
    migrated, created = new_database(), new_database()
    migrate(migrated)
    with User.bind_ctx(created):
        created.create_tables([User])
    assert definition(migrated) == definition(created)
    assert len(definition(migrated)[1]) == 11


def test_the_migrated_schema_does_the_work(empty):
    migrate(empty)
    with User.bind_ctx(empty):
        run_sql(empty, "INSERT INTO", Entity("user"), "(email) VALUES ('a@b.example')")
        row = User.get()
        assert state(User.needs_welcome_email, row) == IDLE
        run_sql(empty, "UPDATE", Entity("user"), "SET needs_welcome_email = true")
        assert finish(claim_one(User.needs_welcome_email))
        with pytest.raises(peewee.IntegrityError), empty.atomic():
            User.create(email="a@b.example")


def test_a_migration_can_be_taken_back_and_applied_again(empty):
    migrate(empty)
    runner = Runner(empty, str(migrating._SCRIPTS), migrating._HISTORY)
    assert runner.down() == ["0002_operations"]
    assert runner.down() == ["0001_users"]
    assert empty.get_tables() == ["pending_migration"]
    assert migrate(empty) == ["0001_users", "0002_operations"]
    assert "user" in empty.get_tables()


@pytest.mark.parametrize("attempt", range(3))
def test_two_processes_at_once_migrate_once(new_url, attempt, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", new_url())
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=60) for process in processes]
    assert sorted(ends) == [
        ("['0001_users', '0002_operations']\n", ""),
        ("[]\n", ""),
    ]
    assert [process.returncode for process in processes] == [0, 0]


def test_a_migration_that_fails_lets_the_next_process_try(empty, tmp_path, monkeypatch):
    """What was applied before it stays applied."""
    monkeypatch.setattr(migrating, "_SCRIPTS", tmp_path)
    good = "def up(migrator, db): db.execute_sql('CREATE TABLE {} (id INTEGER)')\n"
    (tmp_path / "0001_one.py").write_text(good.format("one"))
    (tmp_path / "0002_two.py").write_text("def up(migrator, db): raise OSError(2)\n")
    with pytest.raises(OSError, match="2"):
        migrate(empty)
    (tmp_path / "0002_two.py").write_text(good.format("two"))
    with ThreadPoolExecutor(1) as another_connection:
        assert another_connection.submit(migrate, empty).result(60) == ["0002_two"]
    assert set(empty.get_tables()) == {"one", "two", "pending_migration"}


def test_the_application_s_own_migrations_are_left_alone(empty, tmp_path):
    """Also where the application uses the same tool, under its default name."""
    (tmp_path / "0001_users.py").write_text("def up(migrator, db): pass\n")
    assert Runner(empty, str(tmp_path)).up() == ["0001_users"]
    assert migrate(empty) == ["0001_users", "0002_operations"]
