"""`pending migration`, `pending migrate`, `pending rollback`, as people type them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import peewee
import pytest
from elsewhere import open_transaction
from playhouse.migrations import Runner
from python import run_python
from waiting import wait_for

from models import PendingFlag, PendingModel
from models.connection import database_from_url
from models.marking import mark_pending, unmark
from models.migrating import drop_flag, lacking

SHOP = """
import os
from peewee import CharField
from models import PendingFlag, PendingModel
from models.connection import database_from_url

class Order(PendingModel):
    email = CharField(default="")
"""

FLAG = "    needs_receipt = PendingFlag()\n"

ELSEWHERE = """
class Box(PendingModel):
    needs_label = PendingFlag()

    class Meta:
        database = database_from_url(os.environ["ARCHIVE_URL"])
"""

ADDED = "0001_add_order_needs_receipt"
UP_TO_DATE = ("The schema is up to date.\n", 0)

COMMANDS = """
import json, sys
from click.testing import CliRunner
from worker.cli import cli
ends = [CliRunner().invoke(cli, line) for line in json.loads(sys.argv[1])]
print(json.dumps([(end.output, end.exit_code) for end in ends]))
"""


class Shop:
    """An application beside this project, with a database and migrations of its own.

    Its table of orders has no flag yet; its code has one.
    """

    def __init__(self, folder, url):
        self.folder, self.migrations = folder, folder / "its" / "migrations"
        self.database = database_from_url(url)
        self.environment = {
            "DATABASE_URL": url,
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PENDING_MODULES": "the_shop",
            "PENDING_MIGRATIONS": str(self.migrations),
        }
        self.code(SHOP + FLAG)

    def code(self, text):
        (self.folder / "the_shop.py").write_text(text)

    def run(self, *commands):
        """Run `pending` several times; return what each said, and how it ended."""
        lines = json.dumps([command.split() for command in commands])
        done = run_python(COMMANDS, lines, **self.environment)
        assert done.returncode == 0, done.stderr
        return [tuple(end) for end in json.loads(done.stdout)]

    def scripts(self):
        return sorted(path.name for path in self.migrations.glob("**/*.py"))


class Order(PendingModel):
    """The shop's orders, as its code with the flag has them."""

    email = peewee.CharField(default="")
    needs_receipt = PendingFlag()


class Unflagged(peewee.Model):
    """And as its database has them in the beginning."""

    email = peewee.CharField(default="")

    class Meta:
        table_name = "order"


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def shop(request, server_url, tmp_path):
    shop = Shop(tmp_path, server_url(request.param))
    database = shop.database
    with database.bind_ctx([Order, Unflagged]), database.connection_context():
        Unflagged.create_table()
        Unflagged.create()
        yield shop
    getattr(database, "close_idle", lambda: None)()


def test_a_flag_comes_and_goes(shop):
    added, migrated, again, refused = shop.run(
        "migration add order.needs_receipt",
        *("migrate", "migrate", "migration remove order.needs_receipt"),
    )
    assert f"wrote {shop.migrations}/{ADDED}.py" in added[0]
    assert (migrated[0].endswith(f"applied {ADDED}\n"), again) == (True, UP_TO_DATE)
    assert ("still declared by the_shop.Order" in refused[0], refused[1]) == (True, 1)
    mark_pending(Order.get(), Order.needs_receipt)
    shop.code(SHOP)
    _, refused = shop.run("migration remove order.needs_receipt", "migrate")
    assert ("needs_receipt are pending" in refused[0], refused[1]) == (True, 1)
    unmark(Order.get(), Order.needs_receipt)
    ((said, status),) = shop.run("migrate")
    assert said.endswith("applied 0002_remove_order_needs_receipt\n"), said
    assert status == 0
    assert [column.name for column in shop.database.get_columns("order")] == [
        *("id", "email")
    ]


def test_a_migration_is_taken_back_and_applied_again(shop):
    ends = shop.run(
        *("migration add needs_receipt", "migrate", "rollback", "rollback"),
        *("migrate", f"rollback {ADDED}", f"rollback {ADDED}"),
    )
    assert ends[2:6] == [
        (f"took back {ADDED}\n", 0),
        ("There is nothing to take back.\n", 0),
        (f"applied {ADDED}\n", 0),
        (f"took back {ADDED}\n", 0),
    ]
    said, status = ends[-1]
    assert ("is not an applied migration" in said, status) == (True, 1)


def test_what_a_table_lacks_is_written_once(shop):
    written, refused, _, nothing = shop.run(
        *("migration update", "migration update", "migrate", "migration update")
    )
    assert f"{ADDED}.py" in written[0]
    assert ("does that already; run `pending m" in refused[0], refused[1]) == (True, 1)
    assert nothing == ("Nothing is missing.\n", 0)
    drop_flag(Order.needs_receipt, only=["until", "due"])
    name = "0002_complete_order_needs_receipt_due_until_index"
    assert shop.run("migration update", "migrate", "rollback", "migrate")[1:] == [
        (f"applied {name}\n", 0),
        (f"took back {name}\n", 0),
        (f"applied {name}\n", 0),
    ]
    assert lacking(Order.needs_receipt) == []


def test_a_flag_with_an_odd_column_gets_it(shop):
    shop.code(SHOP + "    needs_it = PendingFlag(column_name='odd one!')\n")
    *_, nothing = shop.run(
        *("migration add order.needs_it", "migrate", "migration update")
    )
    assert nothing == ("Nothing is missing.\n", 0)


def test_each_database_has_migrations_of_its_own(shop, server_url, request):
    url = server_url(request.node.callspec.params["shop"])
    shop.environment["ARCHIVE_URL"] = url
    name = url.partition("?")[0].rpartition("/")[2].removesuffix(".db")
    shop.code(SHOP + FLAG + ELSEWHERE)
    archive = database_from_url(url)
    with archive.connection_context():
        archive.execute_sql("CREATE TABLE box (id INT)")
    getattr(archive, "close_idle", lambda: None)()
    script = f"{name}/0001_add_box_needs_label"
    written, migrated, back = shop.run(
        *("migration update", "migrate", f"rollback {script}")
    )
    assert f"{shop.migrations}/{script}.py" in written[0]
    assert f"applied {ADDED}\napplied {script}\n" in migrated[0]
    assert back == ("took back 0001_add_box_needs_label\n", 0)
    shop.environment["PENDING_MODULES"] = ""
    ((said, status),) = shop.run("migrate")
    assert ("PENDING_MODULES names your modules" in said, status) == (True, 1)


def test_what_is_no_flag_is_refused(shop):
    ends = shop.run(
        *("migration add order.nope", "migration remove order"),
        *("migration remove order.", "migration remove .x"),
    )
    assert [status for _, status in ends] == [2, 2, 2, 2]
    assert shop.scripts() == []


def test_a_script_runs_with_peewee_s_own_tool_as_well(shop):
    shop.run("migration add order.needs_receipt")
    assert Runner(shop.database, str(shop.migrations)).up() == [ADDED]
    assert lacking(Order.needs_receipt) == []


def test_several_at_once_wait_for_each_other(shop):
    shop.run("migration add order.needs_receipt", "migrate", "rollback")
    with ThreadPoolExecutor(3) as pool:
        ends = list(pool.map(lambda _: shop.run("migrate"), range(3)))
    assert sorted(ends) == sorted(
        [[(f"applied {ADDED}\n", 0)], [UP_TO_DATE], [UP_TO_DATE]]
    )


@pytest.mark.parametrize("shop", ["postgresql"], indirect=True)
def test_an_index_that_a_killed_run_left_is_built_anew(shop):
    """Killed while PostgreSQL waits for a transaction that is older than the index."""
    shop.run("migration add order.needs_receipt")
    database = shop.database
    database.execute_sql("CREATE TABLE other (id int)")

    def build():
        return database.execute_sql(
            "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONC%%'"
            " AND datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchall()

    def unfinished():
        return database.execute_sql(
            "SELECT 1 FROM pg_index WHERE NOT indisvalid"
        ).fetchall()

    def insert():
        database.execute_sql("INSERT INTO other VALUES (1)")
        # A snapshot, which the index waits for; no lock of the table.
        database.execute_sql("DECLARE open CURSOR FOR SELECT * FROM other")

    with open_transaction(database, insert):
        killed = subprocess.Popen(
            [sys.executable, "-c", "from worker.cli import main; main()", "migrate"],
            env={**os.environ, **shop.environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ((pid,),) = wait_for(build)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        database.execute_sql("SELECT pg_terminate_backend(%s)", (pid,))
        wait_for(lambda: not build())
        assert unfinished()
    assert shop.run("migrate") == [(f"applied {ADDED}\n", 0)]
    assert lacking(Order.needs_receipt) == []
