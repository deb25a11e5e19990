"""Flags come to tables that exist, and go, while others read and write them."""

from __future__ import annotations

import threading

import peewee
import pytest
from elsewhere import open_transaction
from looking import IDLE, kind_of, only, run_sql, state
from peewee import CharField
from steps import claim_one
from waiting import wait_for

from models import PendingFlag, PendingModel
from models.altering import altered
from models.connection import connected
from models.errors import FlagError, StillPending
from models.finishing import finish
from models.marking import mark_pending
from models.migrating import CHECK, INDEX, add_flag, drop_flag, lacking

COMPANIONS = ["at", "due", "attempts", "crashes", "until", "lease", "error"]


class Shelf(peewee.Model):
    """The table as old code knows it."""

    name = CharField(default="old")


class Flagged(PendingModel):
    """The same table, as new code knows it."""

    name = CharField(default="new")
    needs_dusting = PendingFlag()

    class Meta:
        table_name = "shelf"


FLAG = Flagged.needs_dusting


@pytest.fixture
def shelf(database):
    """Its database, with the table and one row, and without the flag."""
    with database.bind_ctx([Shelf, Flagged]):
        Shelf.create_table()
        Shelf.create()
        try:
            yield database
        finally:
            while database.in_transaction():
                database.pop_transaction()
            Shelf.drop_table()


def described():
    """What the database says of the table."""
    table = altered(FLAG).catalogue
    indexes = [index for index in table.indexes() if table.is_right(index)]
    return table.columns(), indexes, sorted(table.checks())


def test_a_table_that_got_its_flag_is_as_one_that_was_made_with_it(shelf):
    add_flag(FLAG)
    added = described()
    Shelf.drop_table()
    Flagged.create_table()
    assert added == described()
    assert lacking(FLAG) == []


def test_a_flag_that_was_added_does_its_work_and_goes(shelf):
    add_flag(FLAG)
    row = Flagged.get()
    assert state(FLAG, row) == IDLE
    assert mark_pending(row, FLAG) == 1
    assert finish(claim_one(FLAG))
    drop_flag(FLAG)
    columns, indexes, _ = described()
    assert (set(columns), indexes) == ({"id", "name"}, [])


def test_old_code_inserts_rows_that_are_idle(shelf):
    add_flag(FLAG)
    old = Shelf.create()
    assert state(FLAG, Flagged.get_by_id(old.id)) == IDLE


def test_an_update_as_old_code_writes_it_leaves_the_flag_alone(shelf):
    add_flag(FLAG)
    mark_pending(Flagged.get(), FLAG)
    Shelf.update(name="again").execute()
    assert claim_one(FLAG).row.name == "again"


@pytest.mark.parametrize("suffix", COMPANIONS)
def test_a_column_that_is_missing_is_added_and_nothing_else(shelf, suffix):
    add_flag(FLAG)
    before = described()
    drop_flag(FLAG, only=[suffix])
    parts = [INDEX] if suffix == "due" else []
    assert lacking(FLAG) == [suffix, *parts]
    add_flag(FLAG)
    columns, *rest = described()
    assert (columns, rest) == (before[0], list(before[1:]))


def test_a_missing_index_is_added_and_nothing_else(shelf):
    add_flag(FLAG)
    before = described()
    drop_flag(FLAG, only=[INDEX])
    assert lacking(FLAG) == [INDEX]
    add_flag(FLAG)
    assert described() == before


@only("postgresql", "mysql")
def test_a_missing_check_is_added(shelf):
    add_flag(FLAG)
    before = described()
    if kind_of(shelf) == "mysql":
        run_sql(shelf, "ALTER TABLE shelf MODIFY needs_dusting BOOL NOT NULL DEFAULT 0")
    else:
        run_sql(shelf, "ALTER TABLE shelf DROP CONSTRAINT shelf_needs_dusting_check")
    assert lacking(FLAG) == [CHECK]
    add_flag(FLAG)
    assert described() == before


@only("postgresql")
def test_a_check_is_proven_after_it_was_added(shelf):
    """So that nobody has to wait while all rows are read."""
    add_flag(FLAG)
    ((proven,),) = run_sql(
        shelf,
        "SELECT convalidated FROM pg_constraint"
        " WHERE conname = 'shelf_needs_dusting_check'",
    )
    assert proven


class Stopped(BaseException):
    """The process ended here."""


def stop_after(monkeypatch, database, count):
    """Let the process end after so many statements that alter something."""
    done, run = [], database.execute_sql

    def execute_sql(sql, *arguments, **options):
        alters = sql.startswith(("ALTER", "CREATE", "DROP", "LOCK"))
        if alters and len(done) == count:
            raise Stopped
        cursor = run(sql, *arguments, **options)
        done.extend([sql] * alters)
        return cursor

    monkeypatch.setattr(database, "execute_sql", execute_sql)


def stopped(monkeypatch, database, count, step):
    """Say whether the process ended after `count` statements, before all was done."""
    with monkeypatch.context() as patched:
        stop_after(patched, database, count)
        try:
            step(FLAG)
        except Stopped:
            return True
    return False


@pytest.mark.parametrize("step", [add_flag, drop_flag])
def test_who_is_stopped_between_two_statements_does_the_rest_later(
    shelf, monkeypatch, step
):
    before, after = (Shelf, Flagged) if step is add_flag else (Flagged, Shelf)
    Shelf.drop_table()
    after.create_table()
    whole = described()
    count, goes_on = 0, True
    while goes_on:
        Shelf.drop_table()
        before.create_table()
        goes_on = stopped(monkeypatch, shelf, count, step)
        step(FLAG)
        assert described() == whole
        count += 1
    assert count > 1


def insert_as_old_code(database, count):
    """Insert rows from another thread, a transaction each."""

    def run():
        with connected(database):
            for _ in range(count):
                Shelf.create()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    return not thread.is_alive()


@only("postgresql", "mysql")
@pytest.mark.parametrize("step", [add_flag, drop_flag])
def test_who_writes_does_not_queue_behind_a_migration_that_waits(shelf, caplog, step):
    """A report reads the table for hours: the migration waits, and nobody else does."""
    if step is drop_flag:
        add_flag(FLAG)
    done = threading.Event()

    def alter():
        with connected(shelf):
            step(FLAG)
        done.set()

    def tries():
        return "table in use" in caplog.text

    migration = threading.Thread(target=alter)
    with open_transaction(shelf, lambda: list(Shelf.select())):
        migration.start()
        wait_for(tries)
        assert insert_as_old_code(shelf, 20)
        assert not done.is_set()
    migration.join(60)
    assert done.is_set()
    assert Shelf.select().count() == 21
    assert (lacking(FLAG) == []) == (step is add_flag)


@only("postgresql")
def test_a_limit_of_the_role_does_not_end_a_long_build(shelf):
    run_sql(shelf, "SET lock_timeout = 1")
    add_flag(FLAG)
    assert lacking(FLAG) == []


def test_a_flag_that_has_work_to_do_is_not_dropped(shelf):
    add_flag(FLAG)
    row = Flagged.get()
    mark_pending(row, FLAG)
    before = described()
    with pytest.raises(StillPending, match="needs_dusting are pending"):
        drop_flag(FLAG)
    assert described() == before
    assert finish(claim_one(FLAG))
    drop_flag(FLAG)


def test_a_flag_that_has_work_to_do_is_dropped_by_who_says_so(shelf):
    add_flag(FLAG)
    mark_pending(Flagged.get(), FLAG)
    drop_flag(FLAG, even_pending=True)
    assert set(described()[0]) == {"id", "name"}


@pytest.mark.parametrize("step", [add_flag, drop_flag])
def test_a_transaction_is_refused(shelf, step):
    with shelf.atomic(), pytest.raises(FlagError, match="write `atomic = False`"):
        step(FLAG)


def test_a_table_that_is_not_there_is_an_error_of_the_database(shelf):
    Shelf.drop_table()
    try:
        with pytest.raises((peewee.DatabaseError, peewee.InterfaceError)):
            add_flag(FLAG)
    finally:
        Shelf.create_table()


@only("mysql")
def test_a_table_without_transactions_gets_no_flag(shelf):
    run_sql(shelf, "ALTER TABLE shelf ENGINE = MyISAM")
    with pytest.raises(FlagError, match=r"MyISAM, .*ALTER TABLE `shelf` ENGINE"):
        add_flag(FLAG)
    assert len(lacking(FLAG)) == len([*COMPANIONS, "", CHECK, INDEX])
