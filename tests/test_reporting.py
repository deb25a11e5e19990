"""What a process tells the database of itself, and never at the work's cost."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta

import peewee
import pytest
from domain import Order
from steps import claim_one
from waiting import wait_for
from work import drained, orders

from models import tallies as kept
from models.connection import database_from_url
from models.counting import numbers
from models.heartbeats import processes
from models.operations import TABLES, Heartbeat
from models.pausing import pause
from worker import GiveUp, handles, kicking, reporting, tallying
from worker.leasing import leases
from worker.pausing import pauses
from worker.reporting import Reporter, sample, write_samples, write_tallies
from worker.tallying import Tallies, pulse, tallies

FLAG = Order.needs_receipt


@pytest.fixture(autouse=True)
def anew(monkeypatch):
    """Nothing was counted before, nor are bells that ring later; afterwards no pause is
    known."""
    monkeypatch.setattr(kicking, "ring", lambda flag: True)
    tallies.take()
    for moment in ("looked", "drained", "swept"):
        monkeypatch.setattr(pulse, moment, None)
    monkeypatch.setattr(pauses, "watched", False)
    yield
    tallies.take()
    pauses.forget()


def test_what_happened_is_added_to_the_database_s_numbers(operations):
    orders(4)
    outcomes = iter([None, ValueError("x"), GiveUp("y"), None])

    def handler(row):
        error = next(outcomes)
        if error:
            raise error

    drained(FLAG, handler)
    write_tallies()
    found = kept.totals()[FLAG.label]
    names = ("finished", "failed", "released", "parked", "lost")
    assert [found[name] for name in names] == [2, 2, 1, 1, 0]
    assert kept.histogram(found, "duration").total == 4
    assert kept.histogram(found, "wait").total == 2
    write_tallies()
    assert kept.totals()[FLAG.label] == found


def test_the_wait_is_from_the_mark_or_from_the_time_it_was_delayed_to(operations):
    first, second = orders(2)
    past = time.time() * 1000 - 60_000
    for row, at, due in ((first, past, past), (second, past - 9e6, past)):
        peewee.ModelUpdate(Order, {FLAG.at: round(at), FLAG.due: round(due)}).where(
            Order.id == row.id
        ).execute()
    drained(FLAG, lambda row: None)
    write_tallies()
    wait = kept.histogram(kept.totals()[FLAG.label], "wait")
    assert timedelta(seconds=118) < wait.sum < timedelta(seconds=130)


def test_a_crash_that_is_found_is_counted(operations):
    orders(1)
    claim_one(FLAG)
    Order.update({FLAG.until: 1}).execute()
    drained(FLAG, lambda row: None)
    write_tallies()
    assert kept.totals()[FLAG.label]["crashed"] == 1


def test_numbers_that_cannot_be_written_are_kept(operations):
    tallies.add(FLAG.label, ("finished", 3))
    pulse.swept = time.monotonic()
    operations.execute_sql("DROP TABLE pending_count")
    with pytest.raises(peewee.DatabaseError):
        write_tallies()
    operations.create_tables(TABLES)
    write_tallies()
    assert kept.totals() == {FLAG.label: {"finished": 3}}
    assert kept.last_sweep() is not None


def test_a_heartbeat_says_what_the_threads_do(operations, handlers):
    handles(FLAG)(lambda row: None)
    orders(1)
    held = claim_one(FLAG)
    reporter = Reporter("worker", threads=8)
    pulse.looked = time.monotonic() - 3
    with leases.kept(held):
        reporter.report()
    (one,) = processes()
    assert (one.id, one.kind, one.threads) == (reporter.id, "worker", 8)
    assert one.held[FLAG.label] == 1
    assert timedelta(seconds=2) < one.seen - one.looked < timedelta(seconds=10)
    assert one.drained is None
    assert one.looking


def test_a_process_that_ends_leaves_with_its_last_numbers(operations):
    reporter = Reporter("worker")
    reporter.report()
    tallies.add(FLAG.label, ("finished", 1))
    reporter.end()
    assert processes() == []
    assert kept.totals()[FLAG.label] == {"finished": 1}


def test_each_flag_is_sampled_once_a_minute(operations, handlers, monkeypatch):
    handles(FLAG)(lambda row: None)
    orders(3)
    write_samples()
    orders(2)
    monkeypatch.setattr(kept, "sampled", lambda label: True)
    write_samples()
    since = datetime.now(UTC) - timedelta(hours=1)
    (minute,) = kept.minutes(FLAG.label, since=since)
    assert (minute.counts["due"], minute.counts["parked"]) == (3, 0)


def test_a_sample_has_a_number_for_each_state(database):
    names = {"due", "scheduled", "running", "retrying", "parked", "oldest_ms"}
    assert set(sample(numbers(FLAG))) == names


@pytest.fixture
def bare(server_url):
    """A database without the tables of operating."""
    one = database_from_url(server_url("sqlite"))
    with one.bind_ctx(TABLES):
        yield one
    one.close()


def test_without_the_tables_one_line_says_what_would_make_them(bare, caplog):
    caplog.set_level(logging.INFO, logger="pending")
    reporter = Reporter("worker")
    for _ in range(3):
        assert not reporter._try(reporter.report)
    (line,) = caplog.messages
    assert line.startswith("reports not kept, `pending migrate` adds pauses, ")
    assert "pending_worker" in line
    bare.create_tables(TABLES)
    assert reporter._try(reporter.report)
    assert caplog.messages[1:] == ["reports go on"]
    assert Heartbeat.select().count() == 1


def test_a_database_that_fails_is_one_warning(bare, caplog, monkeypatch):
    monkeypatch.setattr(reporting, "_absent", lambda: "")
    reporter = Reporter("worker")
    for _ in range(3):
        assert not reporter._try(reporter.report)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message.startswith("reports fail, the work goes on: ")


def test_the_thread_reads_pauses_and_beats(operations, monkeypatch):
    monkeypatch.setattr(reporting, "_READ_SECONDS", 0.05)
    pause(FLAG.label)
    reporter = Reporter("worker", threads=1)
    reporter.start()
    try:
        assert pauses.hold(FLAG.label)  # known before the first row is claimed
        wait_for(lambda: [one.alive for one in processes()] == [True])
    finally:
        reporter.end()
        reporter._thread.join(5)
        reporting.others.reporter = None


def test_numbers_have_a_bound(monkeypatch):
    monkeypatch.setattr(tallying, "_MOST", 3)
    one = Tallies()
    for n in range(10):
        one.add("a.b", (f"name{n}", 1))
    one.put_back(one.take())
    assert len(one.take()) == 3
