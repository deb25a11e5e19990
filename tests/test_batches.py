"""Batches on every database: many rows a call, and each row's own end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from domain import Line, Order
from looking import IDLE, state, write
from work import drained, orders

from models import NEVER, DefinitionError
from worker import GiveUp, RetryLater, handles
from worker.events import Event

FLAG = Order.needs_receipt

BOTH = pytest.mark.parametrize("atomic", [False, True])


@BOTH
def test_a_batch_is_a_list_of_rows_the_longest_due_first(database, atomic):
    rows, seen = orders(5), []

    def call(batch):
        seen.append([row.id for row in batch])
        assert isinstance(batch, list)
        for row in batch:
            row.customer = "eve"

    assert drained(FLAG, call, batch=3, atomic=atomic) == {Event.FINISHED: 5}
    assert seen[0] == [row.id for row in rows[:3]]
    assert [key for keys in seen for key in keys] == [row.id for row in rows]
    assert [state(FLAG, row) for row in rows] == [IDLE] * 5
    assert {row.customer for row in Order.select()} == {"eve"}


@BOTH
def test_each_row_of_a_batch_ends_as_the_list_says(database, atomic):
    rows = orders(5)

    def call(batch):
        for row in batch:
            Line.create(order=row.id)
            row.customer = "eve"
        later = RetryLater(timedelta(hours=1))
        return [None, ValueError("torn"), later, GiveUp("no such street"), "sent"]

    assert drained(FLAG, call, batch=5, atomic=atomic) == {
        Event.FINISHED: 2,
        Event.RELEASED: 1,
        Event.POSTPONED: 1,
        Event.PARKED: 1,
    }
    after = [state(FLAG, row) for row in rows]
    assert (after[0], after[4]) == (IDLE, IDLE)
    assert [row.attempts for row in after[1:3]] == [1, 0]
    assert "torn" in after[1].error
    assert (after[3].due, after[3].error) == (NEVER, "no such street")
    customers = [row.customer for row in Order.select().order_by(Order.id)]
    assert customers == ["eve", "dan", "dan", "dan", "eve"]
    assert Line.select().count() == 5


@BOTH
@pytest.mark.parametrize("answer", [[], [None], [None] * 4, (None,) * 3, "yes", 3])
def test_an_answer_that_does_not_tell_is_a_failure_of_the_whole_batch(
    database, atomic, answer
):
    rows = orders(3)

    def call(batch):
        Line.create(order=batch[0].id)
        return answer

    ended = drained(FLAG, call, batch=3, atomic=atomic)
    assert ended == {Event.RELEASED: 3}
    assert all("TypeError" in state(FLAG, row).error for row in rows)
    assert Line.select().count() == (0 if atomic else 1)


@BOTH
def test_what_a_batch_that_raises_has_written_is_there_only_if_it_is_not_atomic(
    database, atomic
):
    rows = orders(3)

    def call(batch):
        Line.create(order=batch[0].id)
        batch[0].customer = "eve"
        raise ValueError("boom")

    assert drained(FLAG, call, batch=3, atomic=atomic) == {Event.RELEASED: 3}
    assert [state(FLAG, row).attempts for row in rows] == [1, 1, 1]
    assert {row.customer for row in Order.select()} == {"dan"}
    assert Line.select().count() == (0 if atomic else 1)


def test_an_atomic_batch_that_lost_a_row_has_written_nothing_and_is_tried_without_it(
    database,
):
    rows, calls = orders(3), []

    def call(batch):
        calls.append([row.id for row in batch])
        Line.create(order=rows[0])
        if rows[1] in batch:
            write(FLAG, rows[1], lease=1)

    assert drained(FLAG, call, batch=3, atomic=True) == {
        Event.LOST: 1,
        Event.POSTPONED: 2,
        Event.FINISHED: 2,
    }
    assert calls[0] == [row.id for row in rows]
    assert Line.select().count() == len(calls) - 1
    assert [state(FLAG, row).flag for row in rows] == [False, True, False]


def test_a_batch_that_raises_at_its_only_attempt_is_parked_whole(database):
    rows = orders(3)

    def call(batch):
        raise ValueError("boom")

    assert drained(FLAG, call, batch=3, attempts=1) == {Event.PARKED: 3}
    assert {state(FLAG, row).due for row in rows} == {NEVER}


def test_rows_at_their_last_attempt_are_alone(database):
    rows, sizes = orders(6), []
    for row in rows[:3]:
        write(FLAG, row, attempts=2)
    drained(FLAG, lambda batch: sizes.append(len(batch)), batch=100, attempts=3)
    assert sorted(sizes) == [1, 1, 1, 3]


@pytest.mark.usefixtures("handlers")
def test_an_async_function_cannot_be_atomic():
    async def call(row):
        """Its calls would share one transaction."""

    with pytest.raises(DefinitionError, match="cannot be async"):
        handles(FLAG, atomic=True)(call)
