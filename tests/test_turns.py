"""Flags take turns: a drain calls others to join, makes room, and can be ended."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from domain import Order
from looking import kind_of, state
from work import (
    bell_for,
    drained,
    draining,
    handler_of,
    nothing,
    orders,
    quick_handler_of,
)

from worker import handling, hands, taking
from worker.events import Event
from worker.handling import drain

FLAG = Order.needs_receipt


@pytest.mark.parametrize(("due", "rings"), [(0, 0), (1, 0), (2, 1), (5, 1)])
def test_others_are_rung_for_once_if_there_is_more_than_one_row(database, due, rings):
    orders(due)
    rung = []
    drain(handler_of(FLAG, nothing), ring=lambda flag: not rung.append(flag))
    assert rung == [FLAG] * rings


def test_after_its_turn_a_drain_ends_and_is_to_go_on_later(database, monkeypatch):
    monkeypatch.setattr(handling, "_TURN_SECONDS", 0)
    orders(3)
    handler, later = handler_of(FLAG, nothing), []
    while drain(handler, ring=lambda flag: True, later=later.append):
        pass
    assert later == [FLAG] * 3


def test_a_drain_that_nobody_calls_again_goes_on(database, monkeypatch):
    monkeypatch.setattr(handling, "_TURN_SECONDS", 0)
    orders(3)
    assert drained(FLAG, nothing) == {Event.FINISHED: 3}


def test_a_second_thread_leaves_quick_rows_to_the_first(database):
    """Which sees what the second one's bell was for."""
    (first,) = orders(1)
    seen, done = [], threading.Event()

    def handle(row):
        seen.append(row.id)
        if row.id == first.id:
            orders(1)
            bell_for(handler)
            done.set()

    handler = quick_handler_of(FLAG, handle)
    handler.pace.took(1_000, 0.1)
    assert drain(handler, ring=lambda flag: False) == {Event.FINISHED: 2}
    assert done.is_set()


def test_a_second_thread_joins_where_rows_take_long(database):
    orders(2)
    both = threading.Barrier(2, timeout=30)
    handler = handler_of(FLAG, lambda row: both.wait())
    handler.pace.took(10, 1)
    with draining(handler) as one, draining(handler) as other:
        ended = one.result(60) + other.result(60)
    assert ended == {Event.FINISHED: 2}


def test_what_a_thread_left_to_one_that_is_stuck_is_rung_for_again(database):
    (stuck, _) = orders(2)
    began, rung, free = threading.Event(), threading.Event(), threading.Event()

    def handle(row):
        if row.id == stuck.id:
            began.set()
            free.wait(60)

    handler = handler_of(FLAG, handle)
    handler.pace.took(1_000, 0.1)
    handler.pace.rows = 1
    with ThreadPoolExecutor(1) as pool:
        one = pool.submit(drain, handler, ring=lambda flag: rung.set() or True)
        assert began.wait(30)
        rung.clear()
        if not drain(handler, ring=lambda flag: False):  # it came soon enough
            assert rung.wait(30)
            assert drain(handler, ring=lambda flag: False) == {Event.FINISHED: 1}
        free.set()
        assert one.result(60) == {Event.FINISHED: 1}


def test_a_process_that_is_to_end_takes_no_new_row(database, monkeypatch):
    monkeypatch.setattr(hands, "stopping", threading.Event())
    rows = orders(2)
    ended = drained(FLAG, lambda row: hands.stopping.set())
    assert ended == {Event.FINISHED: 1}
    assert drained(FLAG, nothing) == {}
    assert (state(FLAG, rows[1]).flag, state(FLAG, rows[1]).lease) == (True, None)


TRIGGERS = {
    "sqlite": [
        'CREATE TRIGGER touch AFTER UPDATE OF needs_receipt ON "order"'
        " WHEN NOT NEW.needs_receipt BEGIN"
        ' UPDATE "order" SET needs_receipt = TRUE WHERE id = NEW.id; END'
    ],
    "postgresql": [
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN NEW.needs_receipt = true; RETURN NEW; END'",
        'CREATE TRIGGER touch BEFORE UPDATE ON "order"'
        " FOR EACH ROW EXECUTE FUNCTION touch()",
    ],
    "mysql": [
        "CREATE TRIGGER touch BEFORE UPDATE ON `order`"
        " FOR EACH ROW SET NEW.needs_receipt = TRUE"
    ],
}


def test_a_row_that_a_trigger_marks_for_ever_is_one_loud_warning(database, caplog):
    orders(1)
    for statement in TRIGGERS[kind_of(database)]:
        database.execute_sql(statement)
    try:
        ended = drained(FLAG, nothing)
    finally:
        table = ' ON "order"' if kind_of(database) == "postgresql" else ""
        database.execute_sql(f"DROP TRIGGER touch{table}")
        if table:
            database.execute_sql("DROP FUNCTION touch()")
    assert ended == {Event.FINISHED: taking._MOST_RUNS}
    warnings = [one.message for one in caplog.records if "trigger" in one.message]
    assert len(warnings) == 1
    assert FLAG.label in warnings[0]


def test_a_handler_that_marks_its_row_for_ever_makes_room_for_others(database):
    (row,) = orders(1)

    def again(order):
        Order.update(needs_receipt=True).where(Order.id == row.id).execute()

    assert drained(FLAG, again) == {Event.FINISHED: taking._MOST_RUNS}
    assert state(FLAG, row).flag
