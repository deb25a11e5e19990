"""Async handlers on every database: many calls at once, and none waits for another."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import peewee
import pytest
from domain import Order
from elsewhere import open_transaction
from looking import IDLE, only, state, write
from waiting import wait_for
from work import bell_for, draining, handler_of, orders

from models import NEVER
from models.marking import mark_pending
from worker import hands, taking
from worker.events import Event
from worker.flowing import flow_of
from worker.handling import drain
from worker.leasing import leases

FLAG = Order.needs_receipt


class Waiting:
    """An async handler: calls for some rows wait until the test lets them go."""

    def __init__(self) -> None:
        self.slow: set[int] = set()
        self.go = threading.Event()
        self.seen: list[int] = []
        self.now = self.most = 0

    async def __call__(self, row):
        self.seen.append(row.id)
        self.now += 1
        self.most = max(self.most, self.now)
        while row.id in self.slow and not self.go.is_set():
            await asyncio.sleep(0.005)
        self.now -= 1

    def handler(self, **options):
        async def call(row):
            await self(row)

        return handler_of(FLAG, call, **options)


@pytest.fixture
def waiting():
    """One that lets all go in the end, and leaves no lease to be renewed."""
    one = Waiting()
    yield one
    one.go.set()
    leases.let_go(*leases.held())


def drained(handler):
    return drain(handler, ring=lambda flag: False)


def test_rows_are_handled_at_the_same_time_and_finished(database, waiting):
    rows = orders(7)
    waiting.slow = {row.id for row in rows}
    handler = waiting.handler()
    with draining(handler) as ended:
        wait_for(lambda: waiting.now == 7)
        waiting.go.set()
        assert ended.result(60) == {Event.FINISHED: 7}
    assert [state(FLAG, row) for row in rows] == [IDLE] * 7


def test_a_row_that_killed_its_workers_is_parked_without_a_call(database, waiting):
    (row,) = orders(1)
    write(FLAG, row, lease=1, crashes=2)  # and the one that holds it is the third
    assert drained(waiting.handler()) == {Event.PARKED: 1}
    assert (waiting.seen, state(FLAG, row).error) == ([], "3 workers died of it")


def test_no_more_calls_are_under_way_than_the_handler_says(database, waiting):
    waiting.slow = {row.id for row in orders(9)}
    handler = waiting.handler(concurrency=2)
    with draining(handler) as ended:
        wait_for(lambda: waiting.now == 2)
        bell_for(handler)
        waiting.go.set()
        assert ended.result(60) == {Event.FINISHED: 9}
    assert waiting.most == 2


def test_a_slow_call_keeps_nobody_waiting(database, waiting):
    slow, quick = orders(2)
    waiting.slow = {slow.id}
    handler = waiting.handler()
    with draining(handler):
        wait_for(lambda: not state(FLAG, quick).flag)
        mark_pending(quick, FLAG)
        bell_for(handler)
        wait_for(lambda: waiting.seen.count(quick.id) == 2)
        wait_for(lambda: not state(FLAG, quick).flag)
        assert state(FLAG, slow).lease
        waiting.go.set()
    assert state(FLAG, slow) == IDLE


def test_a_row_marked_while_its_call_runs_is_handled_once_more(database, waiting):
    (row,) = orders(1)
    waiting.slow = {row.id}
    handler = waiting.handler()
    with draining(handler) as ended:
        wait_for(lambda: waiting.seen)
        mark_pending(row, FLAG)
        waiting.go.set()
        assert ended.result(60) == {Event.FINISHED: 2}
    assert state(FLAG, row) == IDLE


def test_calls_under_way_are_finished_although_a_claim_has_failed(
    database, waiting, monkeypatch
):
    """As when the server restarts."""
    (row,) = orders(1)
    waiting.slow = {row.id}
    handler = waiting.handler()

    failed = threading.Event()

    def gone(*args, **options):
        failed.set()
        raise peewee.OperationalError("gone")

    with draining(handler), monkeypatch.context() as patch:
        wait_for(lambda: waiting.seen)
        patch.setattr(taking, "claim", gone)
        patch.setattr(taking, "_TAKING_BACK_SECONDS", 0)
        bell_for(handler)
        assert failed.wait(60)
        waiting.go.set()
    wait_for(lambda: not state(FLAG, row).flag, seconds=3)


def test_a_row_whose_end_cannot_be_recorded_is_held_no_longer(
    database, waiting, monkeypatch
):
    """As when the server is away for longer than a lease."""
    rows = orders(2)
    handler = waiting.handler()

    def away(*args):
        raise peewee.OperationalError("away")

    with monkeypatch.context() as patch:
        patch.setattr(hands, "finish_all", away)
        patch.setattr(hands, "record", away)
        with suppress(peewee.OperationalError):
            drained(handler)
    keys = {(row.id,) for row in rows}
    assert not [held for held in leases.held() if held.key in keys]


def test_small_batches_are_no_more_calls_than_the_handler_says(database):
    """Rows that have failed come alone; that must not undo the limit."""
    for row in orders(20):
        write(FLAG, row, attempts=5)
    running, most = set(), []

    async def call(rows):
        running.add(rows[0].id)
        most.append(len(running))
        await asyncio.sleep(0.02)
        running.remove(rows[0].id)

    assert drained(handler_of(FLAG, call, batch=100, concurrency=2)) == {
        Event.FINISHED: 20
    }
    assert max(most) <= 2


def test_a_row_that_is_marked_now_and_then_is_nothing_strange(
    database, waiting, caplog
):
    (row,) = orders(1)
    handler = waiting.handler()
    for _ in range(taking._MOST_RUNS + 1):
        mark_pending(row, FLAG)
        assert drained(handler) == {Event.FINISHED: 1}
    assert "trigger" not in caplog.text


def test_a_suspect_that_is_done_lets_others_be_claimed(database, waiting):
    slow, suspect, later = orders(3)
    write(FLAG, suspect, due=NEVER)
    write(FLAG, later, due=NEVER)
    waiting.slow = {slow.id}
    handler = waiting.handler()

    def rung_until(seen):
        bell_for(handler)
        return seen in waiting.seen

    with draining(handler):
        wait_for(lambda: waiting.seen)
        write(FLAG, suspect, due=1, lease=5, until=1)
        try:
            wait_for(lambda: rung_until(suspect.id))
            wait_for(lambda: not state(FLAG, suspect).flag)
            write(FLAG, later, due=1)
            wait_for(lambda: rung_until(later.id), seconds=4)
        finally:
            waiting.go.set()


@only("postgresql", "mysql")
def test_a_row_that_is_locked_keeps_no_other_from_being_finished(database, waiting):
    locked, free = orders(2)
    waiting.slow = {locked.id, free.id}
    handler = waiting.handler()

    def touch():
        Order.update(customer="eve").where(Order.id == locked.id).execute()

    with draining(handler):
        wait_for(lambda: waiting.now == 2)
        with open_transaction(database, touch):
            waiting.slow = {free.id}
            wait_for(lambda: waiting.now == 1)
            wait_for(lambda: not flow_of(handler)._ended.qsize())
            waiting.go.set()
            wait_for(lambda: not state(FLAG, free).flag, seconds=3)


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_object_whose_call_is_async_does_its_work(database, waiting):
    """Or it is refused; but its rows are not cleared without a run."""
    (row,) = orders(1)
    drained(handler_of(FLAG, waiting))
    assert waiting.seen or state(FLAG, row).flag
