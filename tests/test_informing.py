"""What a handler may ask about its attempt."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest
from domain import Order
from looking import now_of, write
from work import HOUR, drained, handler_of, orders, quick_handler_of

from models.instants import instant
from worker import NoAttempt, current
from worker.events import Event
from worker.handling import drain
from worker.informing import Attempt

FLAG = Order.needs_receipt

KINDS = ("plain", "atomic", "atomic group", "async")


def asking(kind, ask):
    """Return a handler of that kind which calls `ask(row)`."""

    async def asynchronous(row):
        await asyncio.sleep(0)
        ask(row)

    if kind == "async":
        return handler_of(FLAG, asynchronous)
    if kind == "atomic group":
        return quick_handler_of(FLAG, ask, atomic=True)
    return handler_of(FLAG, ask, atomic=kind == "atomic")


def drained_by(handler):
    return drain(handler, ring=lambda flag: False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_of_any_kind_knows_its_attempt(database, kind):
    rows = orders(3)
    marks = {row.id: now_of(database, FLAG) - 5_000 for row in rows}
    for row in rows:
        write(FLAG, row, at=marks[row.id], attempts=2)
    seen = {}

    def ask(row):
        seen[row.id] = current(), FLAG.key_of_mark(row)

    assert drained_by(asking(kind, ask)) == {Event.FINISHED: 3}
    assert len(seen) == 3
    for id, (attempt, key) in seen.items():
        assert attempt == Attempt(
            flag=FLAG,
            attempt=3,
            crashes=0,
            key=key,
            marked_at=instant(marks[id]),
            deadline=None,
            _ends=None,
        )
        assert attempt.remaining is None
        assert attempt.key == f"{FLAG.label}:{id}:{marks[id]}"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_in_a_batch_each_row_has_its_own(database, kind):
    rows = orders(2)
    write(FLAG, rows[1], at=77)
    seen = {}

    def ask(batch):
        with pytest.raises(NoAttempt, match=r"has a batch: current\(row\)"):
            current()
        seen.update({row.id: current(row) for row in batch})

    async def ask_soon(batch):
        ask(batch)

    ended = drained(FLAG, ask if kind == "sync" else ask_soon, batch=5)
    assert ended == {Event.FINISHED: 2}
    assert seen[rows[1].id].key == f"{FLAG.label}:{rows[1].id}:77"
    assert seen[rows[0].id].key != seen[rows[1].id].key


def test_crashes_are_known(database):
    (row,) = orders(1)
    write(FLAG, row, lease=5, until=1, crashes=1, attempts=2)
    seen = []
    drained(FLAG, lambda row: seen.append(current()))
    assert [(one.crashes, one.attempt) for one in seen] == [(2, 3)]


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_the_time_limit_has_an_end(database, kind):
    orders(1)
    seen = []

    def ask(row):
        seen.append((current(), datetime.now(UTC), current().remaining))

    async def ask_soon(row):
        ask(row)

    drained(FLAG, ask if kind == "plain" else ask_soon, time_limit=HOUR)
    ((attempt, now, remaining),) = seen
    assert timedelta(minutes=59) < attempt.deadline - now <= HOUR
    assert timedelta(minutes=59) < remaining <= HOUR


def test_outside_of_a_handler_there_is_none(database):
    orders(1)
    with pytest.raises(NoAttempt, match="is for handlers: none is at work"):
        current()
    assert drained(FLAG, lambda row: current()) == {Event.FINISHED: 1}
    with pytest.raises(LookupError):
        current()


def test_a_handler_that_failed_leaves_none_behind(database):
    orders(1)

    def fail(row):
        raise ValueError

    drained(FLAG, fail)
    with pytest.raises(NoAttempt):
        current()


def test_another_row_is_refused(database):
    (row,) = orders(1)
    seen = []

    def ask(row):
        assert current(row) == current()
        with pytest.raises(NoAttempt, match="not at work with"):
            current(Order(id=row.id))
        seen.append(row.id)

    assert drained(FLAG, ask) == {Event.FINISHED: 1}
    assert seen == [row.id]


def test_calls_at_the_same_time_know_their_own(database):
    rows = orders(20)
    seen = []

    async def ask(row):
        await asyncio.sleep(0.01)
        seen.append((row.id, current().key))
        await asyncio.to_thread(lambda: seen.append((row.id, current().key)))

    assert drained(FLAG, ask) == {Event.FINISHED: 20}
    assert len(seen) == 40
    assert all(key.split(":")[1] == str(id) for id, key in seen)
    assert {id for id, _ in seen} == {row.id for row in rows}


def test_a_thread_of_the_handler_s_own_is_no_handler(database):
    """It has a context of its own, unless it is given one."""
    orders(1)
    refused = []

    def ask():
        try:
            current()
        except NoAttempt:
            refused.append(True)

    def handle(row):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()

    assert drained(FLAG, handle) == {Event.FINISHED: 1}
    assert refused == [True]
