"""Broken set-ups: each is named in one line, with what to do."""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import peewee
import pytest
import redis
from domain import Order
from elsewhere import open_transaction
from postbox import free_port
from python import pending

from models import User, database
from models.connection import connected, database_from_url
from models.heartbeats import Beat, beat
from models.inspecting import Level
from models.migrating import migrate
from models.operations import TABLES, Count, Heartbeat
from models.pausing import ALL, pause
from models.tallies import note_sweep
from worker import doctoring
from worker.doctoring import databases
from worker.doctoring.processes import _ticks_since

SECOND, MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)
LONG = timedelta(minutes=5)  # no test takes so long
LABEL = "user.needs_welcome_email"
BEAT = Beat(
    id="a",
    host="here",
    pid=7,
    kind="worker",
    threads=8,
    age=SECOND,
    looked=-LONG,
    drained=None,
    held={LABEL: 0},
)


def lives(process):
    """Write its heartbeat, which counts for as long as the test may take."""
    beat(process)
    Heartbeat.update(seen=Heartbeat.seen + LONG // MILLISECOND).execute()


class Setup:
    """A database and a Redis, with all that the doctor looks for."""

    def __init__(self, url, redis_url):
        self.environment = {
            "DATABASE_URL": url,
            "REDIS_URL": redis_url,
            "REDIS_NAMESPACE": f"doctor-{id(self)}",
        }
        self.database = database_from_url(url)
        self.redis = redis.Redis.from_url(redis_url)

    @contextmanager
    def bound(self):
        with self.database.bind_ctx([*TABLES, User]), connected(self.database):
            yield

    def make(self):
        migrate(self.database)
        with self.bound():
            lives(BEAT)
            note_sweep(age=SECOND)
        self.redis.zadd(self.key("__heartbeats__"), {"worker": time.time() * 1000})

    def key(self, name):
        return f"{self.environment['REDIS_NAMESPACE']}:{name}"

    def remedies(self):
        """Return what mends it."""
        result = pending("doctor", "--json", **self.environment)
        return [one["remedy"] for one in json.loads(result.stdout) if one["remedy"]]

    def examine(self, *options, **environment):
        """Return the exit status and what is not ok, by level."""
        result = pending("doctor", "--json", **{**self.environment, **environment})
        assert result.stderr == ""
        found = json.loads(result.stdout)
        wrong = [one for one in found if one["level"] != "ok"]
        assert all(one["remedy"] for one in wrong)
        assert result.returncode == any(one["level"] == "failure" for one in found)
        return [(one["level"], one["subject"], one["text"]) for one in wrong]


@pytest.fixture
def setup(server_url, redis_client):
    one = Setup(server_url("sqlite"), os.environ["REDIS_URL"])
    one.make()
    yield one
    for key in one.redis.scan_iter(one.key("*")):
        one.redis.delete(key)
    one.redis.close()
    one.database.close()


def named(setup, subject, words, *, level="failure", **environment):
    (found,) = setup.examine(**environment)
    assert found[:2] == (level, subject)
    assert words in found[2]


def test_a_set_up_that_is_well_has_nothing_to_mend(setup):
    assert setup.examine() == []
    result = pending("doctor", **setup.environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["ok"] * 6
    check = pending("doctor", "--check", **setup.environment)
    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")


def test_a_database_that_does_not_answer(setup):
    url = f"postgresql://dan:secret@127.0.0.1:{free_port()}/shop"
    found = setup.examine(DATABASE_URL=url)
    assert found[0][:2] == ("failure", "database")
    assert found[0][2].startswith("shop does not answer: ")
    assert "secret" not in str(found)


def test_a_redis_that_does_not_answer(setup):
    gone = f"redis://127.0.0.1:{free_port()}"
    named(setup, "redis", "does not answer", REDIS_URL=gone)


def test_a_redis_namespace_that_another_application_uses(setup):
    setup.redis.rpush(setup.key("mails"), "x")
    setup.redis.rpush(setup.key("pending"), "kick|shop.needs_x|1")
    words = "bells of shop.needs_x, a queue mails: somebody else's?"
    named(setup, "redis", words, level="warning")


def test_workers_that_listen_somewhere_else(setup):
    setup.redis.delete(setup.key("__heartbeats__"))
    named(setup, "redis", "workers are alive, but none listens", level="warning")


def test_our_own_bells_are_nobody_else_s(setup):
    setup.redis.rpush(setup.key("pending"), f"kick|{LABEL}|1", "sweep||2")
    setup.redis.hset(setup.key("pending.msgs"), "1", "{}")
    setup.redis.set("somebody:else", 1)
    assert setup.examine() == []
    setup.redis.delete("somebody:else")


def test_a_missing_table(setup):
    with setup.bound():
        User.drop_table()
    named(setup, LABEL, "its table is not there")


def test_missing_tables_of_operating(setup):
    with setup.bound():
        setup.database.drop_tables(TABLES)
    named(
        setup, "tables of operating", "pending_pause, pending_worker", level="warning"
    )


def test_a_table_of_operating_that_somebody_dropped_is_made_by_what_is_told(setup):
    with setup.bound():
        setup.database.drop_tables(TABLES[:1])
    (found,) = setup.remedies()
    with setup.bound():
        setup.database.execute_sql(found)
    assert setup.examine() == []


def test_a_migration_that_was_not_applied(setup):
    with setup.bound():
        setup.database.execute_sql("DELETE FROM pending_migration WHERE id = 2")
    words = "not applied yet: 0002_operations"
    named(setup, "migrations", words, level="warning")
    assert setup.remedies() == ["`pending migrate`"]


def test_a_migration_of_a_newer_version(setup):
    with setup.bound():
        setup.database.execute_sql(
            "INSERT INTO pending_migration (name, applied)"
            " VALUES ('0099_later', '2030-01-01')"
        )
    words = "applied, and not known here: 0099_later"
    named(setup, "migrations", words, level="warning")


def test_no_worker(setup):
    with setup.bound():
        setup.database.execute_sql("DELETE FROM pending_worker")
    named(setup, "workers", "none is alive")


def test_a_worker_that_lives_and_does_not_look(setup):
    with setup.bound():
        lives(replace(BEAT, id="b", looked=LONG))
    named(setup, "workers", "process 7 on here lives, but has not looked")


def test_a_worker_whose_threads_have_all_been_at_the_same_rows_for_long(setup):
    full = {"threads": 2, "held": {LABEL: 2}, "drained": timedelta(minutes=30)}
    with setup.bound():
        lives(replace(BEAT, **full))
    words = "all 2 threads of process 7 on here have been at the same rows for 10 min"
    named(setup, "workers", words, level="warning")


def test_a_clock_that_was_not_heard_for_three_ticks(setup):
    with setup.bound():
        Count.update(n=Count.n - 5 * 60_000).where(Count.name == "swept_at").execute()
    named(setup, "clock", "last heard 3", level="warning")


def test_a_clock_that_was_never_heard(setup):
    with setup.bound():
        Count.delete().execute()
    named(setup, "clock", "no worker has heard a clock yet", level="warning")


def test_work_that_no_live_worker_has_a_handler_for(setup):
    with setup.bound():
        User.create(email="dan@example.com", needs_welcome_email=True)
        lives(replace(BEAT, held={"shop.needs_x": 0}))
    lacking, unknown = setup.examine()
    assert lacking[:2] == ("failure", LABEL)
    assert "no handler for them in any live worker" in lacking[2]
    assert unknown[:2] == ("warning", "modules")
    assert "live workers do the work of shop.needs_x, not known here" in unknown[2]


def test_a_module_that_cannot_be_imported(setup):
    named(setup, "modules", "nonsense cannot be imported", PENDING_MODULES="nonsense")


def test_what_is_paused(setup):
    with setup.bound():
        pause(ALL, by="dan", reason="restored")
    named(setup, "everything", "paused by dan: restored", level="warning")


def test_a_host_whose_clock_is_wrong(monkeypatch):
    now = databases._now
    monkeypatch.setattr(databases, "_now", lambda one: now(one) + timedelta(minutes=2))
    (finding,) = databases.host_clock(database)
    assert finding.level is Level.WARNING
    assert finding.text.startswith("it is 120 s behind the database's")


def test_a_transaction_that_is_open_for_long_is_named(database, monkeypatch):
    with open_transaction(database, Order.create):
        time.sleep(0.2)  # MariaDB's account of them is anew when it has had a rest
        assert not list(databases.long_transactions(database))
        monkeypatch.setattr(databases, "_LONG", -SECOND)
        found = [one.remedy for one in databases.long_transactions(database)]
    if isinstance(database, peewee.SqliteDatabase):  # keeps no account of them
        assert not found
    else:
        (remedy,) = found
        assert re.search(r"end it: (KILL|SELECT pg_terminate_backend\() ?\d+", remedy)


def test_ticks_are_counted_as_the_clock_s_cron_says():
    noon = datetime(2030, 1, 1, 12, 0, 30, tzinfo=UTC)
    assert _ticks_since(noon, noon + 20 * SECOND) == 0
    assert _ticks_since(noon, noon + 40 * SECOND) == 1
    assert _ticks_since(noon, noon + timedelta(minutes=3)) == 3
    assert _ticks_since(noon, noon + timedelta(days=3)) == 4


def test_the_flag_of_another_database_is_looked_at_too(database, monkeypatch):
    monkeypatch.setattr(doctoring, "known_flags", lambda: [Order.needs_receipt])
    subjects = {one.subject for one in doctoring.examined()}
    assert Order.needs_receipt.label in subjects
