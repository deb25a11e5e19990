"""`worker.testing` in a process of the house: every key, with and without an open
transaction, and what is around a drain afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from threading import Thread
from typing import Any

import dying
import peewee
import pytest
from domain import FLAGS, Line, Order, Seat
from looking import IDLE, kind_of, state, write

from models import PendingFlag, PendingModel
from models.connection import database_from_url
from models.marking import mark_pending
from worker import broker, handles, mark_pending_async
from worker.testing import (
    assert_idle,
    assert_parked,
    assert_pending,
    crashing,
    drain,
    draining,
    due_in,
    flush,
    kicks,
    marks,
    stage,
)
from worker.testing.steps import steps

FLAG = Order.needs_receipt
HOUR = timedelta(hours=1)

pytestmark = pytest.mark.usefixtures("handlers")


@pytest.fixture(params=["committed", "rolled back"])
def around(request: pytest.FixtureRequest, database: peewee.Database) -> Iterator[None]:
    """A test without a transaction of its own, and with one."""
    if request.param == "committed":
        yield
        return
    with database.atomic() as transaction:
        yield
        assert database.transaction_depth() == 1
        transaction.rollback()
    assert all(flag.model.select().count() == 0 for flag, _ in FLAGS.values())


@pytest.mark.parametrize("kind", FLAGS)
def test_rows_with_keys_of_every_kind(around, kind):
    flag, new = FLAGS[kind]
    row = new()
    handles(flag)(lambda row: None)
    with marks() as made:
        mark_pending(row, flag)
    key = row._pk if kind != "composite" else ("a", 1)
    assert made == [(f"{flag.model._meta.table_name}.{flag.name}", key)]
    assert_pending(row, flag)
    drained = drain(flag)
    assert drained == {"finished": 1}
    assert [(run.key, run.attempt) for run in drained.runs] == [(key, 1)]
    assert_idle(row, flag)
    assert state(flag, row) == IDLE


def test_a_drain_ends_when_nothing_is_due_in_any_flag(around):
    @handles(Line.needs_stock)
    def stock(line: Line) -> None:
        mark_pending(line.order, FLAG)

    @handles(FLAG, atomic=True)
    def receipt(order: Order) -> None:
        if order.total < 2:
            order.total += 1
            for line in order.lines:
                mark_pending(line, Line.needs_stock)

    Line.create(order=Order.create(), needs_stock=True)
    assert drain() == {"finished": 6}
    assert Order.get().total == 2


def test_a_failed_statement_leaves_the_transaction_as_usable_as_it_was(around):
    @handles(FLAG)
    def receipt(order: Order) -> None:
        Seat.create(room="a", number=1)
        Seat.insert(room="a", number=1).execute()

    order = Order.create(needs_receipt=True)
    assert drain() == {"released": 1}
    assert_pending(order, FLAG, attempts=1, error="IntegrityError")
    assert Seat.select().count() == 1  # committed before the other failed


def test_what_cannot_be_saved_has_failed(around):
    @handles(FLAG)
    def receipt(order: Order) -> None:
        order.customer = None  # type: ignore[assignment]

    order = Order.create(needs_receipt=True)
    assert drain() == {"released": 1}
    assert_pending(order, FLAG, error="IntegrityError")
    assert Order.get_by_id(order.id).customer == "dan"


def test_time_passes_for_leases_and_not_for_parked_rows(around):
    handles(FLAG)(lambda row: None)
    held, parked = Order.create(needs_receipt=True), Order.create(needs_receipt=True)
    write(FLAG, held, lease=1, until=9_999_999_999_999)
    write(FLAG, parked, due=2**63 - 1)
    due_in(HOUR, FLAG)
    assert drain() == {}
    due_in(timedelta(days=200_000), FLAG)
    assert drain() == {"finished": 1}
    assert_idle(held, FLAG)
    assert_parked(parked, FLAG)
    with pytest.raises(ValueError, match="length is negative"):
        due_in(-HOUR)


def test_an_async_handler_may_mark_and_await_it(around):
    @handles(FLAG)
    async def receipt(order: Order) -> None:
        assert await mark_pending_async(order, Order.needs_label) == 1

    order = Order.create(needs_receipt=True)
    assert drain(FLAG) == {"finished": 1}
    assert_pending(order, Order.needs_label)


def test_the_time_limit_of_an_async_handler(around):
    @handles(FLAG, time_limit=timedelta(milliseconds=10))
    async def receipt(order: Order) -> None:
        await asyncio.sleep(60)

    order = Order.create(needs_receipt=True)
    assert drain() == {"released": 1}
    assert_pending(order, FLAG, error="the time limit of 0:00:00.010000 is exceeded")


def test_crashes_leave_everything_as_it_was(around, database):
    @handles(FLAG, max_crashes=1)
    def receipt(order: Order) -> None:
        order.customer = "eve"

    before = Order.create()
    ends = []
    for crash in crashing():
        with crash:
            order = Order.create(needs_receipt=True)
            drain()
            ends.append((crash.step, state(FLAG, order).due > 0))
    assert ends == [
        ("nowhere", False),
        ("after the claim, before the handler", True),  # one worker too many
        ("after the handler, before the finish", True),
        ("after the finish", False),
    ]
    assert list(Order.select()) == [before]
    assert not database.is_closed()


def test_a_crash_inside_of_a_crash_is_refused(database):
    with next(crashing()), pytest.raises(RuntimeError, match="inside of a crash"):
        next(crashing()).__enter__()
    assert not database.in_transaction()


def test_other_threads_have_the_database_as_ever(database):
    found = []

    def other() -> None:
        with database.connection_context(), database.atomic():
            found.append(Order.select().count())

    @handles(FLAG)
    def receipt(order: Order) -> None:
        thread = Thread(target=other)
        thread.start()
        thread.join()

    Order.create(needs_receipt=True)
    is_sqlite = isinstance(database, peewee.SqliteDatabase)
    # Only one may write there, and `atomic()` is about to.
    with nullcontext() if is_sqlite else database.atomic():
        assert drain() == {"finished": 1}
    assert found == [1]


def test_a_drain_leaves_a_closed_connection_closed(database):
    handles(FLAG)(lambda row: None)
    Order.create(needs_receipt=True)
    database.close()
    assert drain() == {"finished": 1}
    assert database.is_closed()


def test_no_file_is_made_by_looking_for_a_table(tmp_path):
    class Absent(PendingModel):
        needs_care = PendingFlag()

        class Meta:
            database = database_from_url(f"sqlite:///{tmp_path}/absent.db")

    handles(Absent.needs_care)(lambda row: None)
    assert drain() == {}
    due_in(HOUR)
    assert list(tmp_path.iterdir()) == []


def test_marks_of_a_finish_and_of_queries_are_noted_once(around):
    @handles(Order.needs_label)
    def label(order: Order) -> None:
        order.needs_receipt = True

    with marks() as outer:
        order = Order.create()
        with marks() as made:
            Order.update(needs_label=True).execute()
            drain(Order.needs_label)
    assert made == [("order.needs_label", order.id), ("order.needs_receipt", order.id)]
    assert outer == made
    with marks() as none:
        order.save()
        mark_pending(Order.select().where(Order.total > 9), FLAG)
    assert none == []


def test_a_flushed_queue_is_empty(database, redis_client):
    with kicks() as rung:
        Order.create(needs_receipt=True)
        assert rung == ["order.needs_receipt"]
        flush()
        assert rung == []
    assert redis_client.exists(f"{broker.namespace}:pending") == 0


@pytest.mark.parametrize("kind", dying.HANDLERS)
def test_a_simulated_death_leaves_what_a_real_one_leaves(
    database, server_url, kind, monkeypatch
):
    """At each step of each kind of handler."""
    function, options = dying.HANDLERS[kind]
    handles(FLAG, **options)(function)
    take_over, simulated = draining._take_over, []

    def look_and_take_over(handlers: Any) -> None:
        # What the dead had not committed goes when the server sees that it is gone.
        steps.is_dead = False
        stage.undo(database)
        simulated.append(dying.left())
        take_over(handlers)

    monkeypatch.setattr(draining, "_take_over", look_and_take_over)
    for crash in crashing():
        with crash:
            Order.create(needs_receipt=True)
            drain(FLAG)
    killed = subprocess.run(
        [sys.executable, dying.__file__, server_url(kind_of(database)), kind],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
        env={**os.environ, "PENDING_KICKS": "0"},  # no threads, as it forks
    )
    assert len(simulated) > 4
    assert json.loads(killed.stdout) == json.loads(json.dumps(simulated))


def test_what_is_drained_is_a_flag():
    with pytest.raises(
        TypeError, match=r"takes flags, as Order.needs_receipt, not 'x'"
    ):
        drain("x")
