"""Step 5 on every database: due rows are handled, whatever their handlers do."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import peewee
import pytest
from domain import FLAGS, Order
from looking import IDLE, kind_of, now_of, state, write
from work import HOUR, drained, nothing, orders

from models import NEVER
from models.marking import mark_pending
from worker import GiveUp, RetryLater
from worker.events import Event
from worker.handlers import Handler
from worker.handling import drain

FLAG = Order.needs_receipt


class Odd(BaseException):
    """Not even an Exception."""


@pytest.mark.parametrize("kind", FLAGS)
def test_a_due_row_is_handled_and_idle_afterwards(database, kind):
    flag, new = FLAGS[kind]
    row = new()
    mark_pending(row, flag)
    seen = []
    assert drained(flag, seen.append) == {Event.FINISHED: 1}
    assert [one._pk for one in seen] == [row._pk]
    assert state(flag, row) == IDLE


def test_all_due_rows_are_handled_the_longest_due_first(database):
    rows = orders(5)
    seen = []
    assert drained(FLAG, seen.append) == {Event.FINISHED: 5}
    assert [row.id for row in seen] == [row.id for row in rows]


def test_rows_that_are_not_due_are_left_alone(database):
    idle, later, parked = Order.create(), *orders(2)
    write(FLAG, later, due=now_of(database, FLAG) + 3_600_000)
    write(FLAG, parked, due=NEVER)
    before = [state(FLAG, row) for row in (idle, later, parked)]
    assert drained(FLAG, nothing) == {}
    assert [state(FLAG, row) for row in (idle, later, parked)] == before


@pytest.mark.parametrize(
    "error",
    [
        ValueError("boom"),
        MemoryError("boom"),
        SystemExit("boom"),
        KeyboardInterrupt("boom"),
        GeneratorExit("boom"),
        Odd("boom"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failure_is_its_row_s_alone(database, error):
    first, bad, last = orders(3)

    def handler(row):
        if row == bad:
            raise error

    assert drained(FLAG, handler) == {Event.FINISHED: 2, Event.RELEASED: 1}
    assert state(FLAG, first) == state(FLAG, last) == IDLE
    after = state(FLAG, bad)
    assert "boom" in after.error
    assert (after.flag, after.attempts, after.lease) == (True, 1, None)
    wait = after.due - now_of(database, FLAG)
    assert 0.8 * HOUR < timedelta(milliseconds=wait) <= 1.1 * HOUR


def test_a_row_that_fails_too_often_is_parked_with_its_last_error(database):
    (row,) = orders(1)
    failures = iter(["one", "two", "three"])

    def handler(row):
        raise ValueError(next(failures))

    for event in (Event.RELEASED, Event.RELEASED, Event.PARKED):
        write(FLAG, row, due=0)
        assert drained(FLAG, handler, attempts=3) == {event: 1}
    after = state(FLAG, row)
    assert (after.flag, after.due, after.attempts) == (True, NEVER, 3)
    assert after.error.startswith("ValueError: three ")
    assert drained(FLAG, handler, attempts=3) == {}


def test_retry_later_is_no_failure(database):
    (row,) = orders(1)

    def handler(row):
        raise RetryLater(2 * HOUR, "the shop is closed")

    for _ in range(3):
        write(FLAG, row, due=0)
        assert drained(FLAG, handler, attempts=1) == {Event.POSTPONED: 1}
    after = state(FLAG, row)
    assert (after.attempts, after.error) == (0, "the shop is closed")
    wait = timedelta(milliseconds=after.due - now_of(database, FLAG))
    assert 1.9 * HOUR < wait <= 2 * HOUR


def test_give_up_parks_at_the_first_attempt(database):
    (row,) = orders(1)

    def handler(row):
        raise GiveUp("no such\0 street")

    assert drained(FLAG, handler) == {Event.PARKED: 1}
    after = state(FLAG, row)
    assert (after.due, after.error) == (NEVER, r"no such\0 street")


def test_what_a_handler_assigned_is_saved_with_the_finish(database):
    (row,) = orders(1)

    def handler(row):
        row.customer = "eve"
        assert Order.get_by_id(row.id).customer == "dan"

    assert drained(FLAG, handler) == {Event.FINISHED: 1}
    assert Order.get_by_id(row.id).customer == "eve"


def test_what_a_failed_handler_assigned_is_dropped(database):
    (row,) = orders(1)

    def handler(row):
        row.customer = "eve"
        raise ValueError

    assert drained(FLAG, handler) == {Event.RELEASED: 1}
    assert Order.get_by_id(row.id).customer == "dan"


def test_a_handler_may_clear_its_flag_the_article_s_way(database):
    (row,) = orders(1)

    def handler(row):
        row.customer = "eve"
        row.needs_receipt = False
        row.save()

    assert drained(FLAG, handler) == {Event.FINISHED: 1}
    assert state(FLAG, row) == IDLE
    assert Order.get_by_id(row.id).customer == "eve"


@pytest.mark.parametrize("way", ["function", "save", "assignment", "update"])
def test_a_handler_that_marks_its_own_row_gets_exactly_one_more_run(database, way):
    (row,) = orders(1)
    runs = []

    def handler(row):
        runs.append(row.id)
        if len(runs) > 1:
            return
        if way == "function":
            mark_pending(row, FLAG)
        elif way == "update":
            Order.update(needs_receipt=True).execute()
        else:
            row.needs_receipt = True
            if way == "save":
                row.save()

    assert drained(FLAG, handler) == {Event.FINISHED: 2}
    assert runs == [row.id, row.id]
    assert state(FLAG, row) == IDLE


def test_a_handler_may_close_the_connection(database):
    rows = orders(2)

    def handler(row):
        row.customer = "eve"
        database.close()

    assert drained(FLAG, handler) == {Event.FINISHED: 2}
    assert [state(FLAG, row) for row in rows] == [IDLE, IDLE]
    assert {row.customer for row in Order.select()} == {"eve"}


KILL = {
    "postgresql": "SELECT pg_terminate_backend(pg_backend_pid())",
    "mysql": "KILL CONNECTION_ID()",
}


@pytest.mark.parametrize("error", [None, ValueError("boom")])
def test_the_end_is_recorded_although_the_connection_was_lost(database, error):
    rows = orders(2)

    def handler(row):
        row.customer = "eve"
        with contextlib.suppress(peewee.PeeweeException):
            database.execute_sql(KILL.get(kind_of(database), "SELECT 1"))
        if error:
            raise error

    event = Event.RELEASED if error else Event.FINISHED
    assert drained(FLAG, handler) == {event: 2}
    assert {state(FLAG, row).flag for row in rows} == {bool(error)}
    assert {row.customer for row in Order.select()} == {"dan" if error else "eve"}


@pytest.mark.parametrize("options", [{}, {"atomic": True}], ids=["plain", "atomic"])
def test_a_handler_may_delete_its_row(database, options):
    orders(3)
    handler = Handler(FLAG, lambda row: row.delete_instance(), **options)
    assert drain(handler, ring=lambda flag: False) == {Event.LOST: 3}
    assert Order.select().count() == 0


def test_the_handler_of_an_atomic_batch_may_delete_some_of_its_rows(database):
    rows = orders(5)

    def merge(batch):
        for row in batch[1:]:
            row.delete_instance()

    handler = Handler(FLAG, merge, atomic=True, batch=5)
    assert drain(handler, ring=lambda flag: False) == {Event.FINISHED: 1, Event.LOST: 4}
    assert [(row.id, row.needs_receipt) for row in Order.select()] == [
        (rows[0].id, False)
    ]


@pytest.mark.parametrize("error", [None, ValueError(), GiveUp("x"), RetryLater(HOUR)])
def test_a_lost_lease_changes_nothing_however_the_handler_ended(database, error):
    (row,) = orders(1)

    def handler(row):
        row.customer = "zombie"
        write(FLAG, row, lease=1)  # another worker has it now
        if error:
            raise error

    assert drained(FLAG, handler) == {Event.LOST: 1}
    after = state(FLAG, row)
    assert (after.flag, after.lease, after.error) == (True, 1, None)
    assert Order.get_by_id(row.id).customer == "dan"


def test_two_flags_of_a_row_keep_what_both_assign(database):
    """Each handler has a copy of its own; sums are the database's."""
    order = Order.create(needs_receipt=True, needs_label=True)

    def label(row):
        row.total = Order.total + 1

    def receipt(row):
        assert drained(Order.needs_label, label) == {Event.FINISHED: 1}
        row.total, row.customer = Order.total + 1, "eve"

    assert drained(FLAG, receipt) == {Event.FINISHED: 1}
    row = Order.get_by_id(order.id)
    assert (row.total, row.customer) == (2, "eve")
