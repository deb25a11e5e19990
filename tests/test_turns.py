"""Flags take turns: a drain calls others to join, makes room, and can be ended."""

from __future__ import annotations

import threading

import pytest
from domain import Order
from looking import state
from work import drained, handler_of, nothing, orders

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


def test_after_its_turn_a_drain_rings_and_ends(database, monkeypatch):
    monkeypatch.setattr(handling, "_TURN_SECONDS", 0)
    orders(3)
    rung = []
    ended = drain(handler_of(FLAG, nothing), ring=lambda flag: not rung.append(flag))
    assert ended == {Event.FINISHED: 1}
    assert rung[-1] == FLAG


def test_a_drain_that_cannot_ring_goes_on(database, monkeypatch):
    monkeypatch.setattr(handling, "_TURN_SECONDS", 0)
    orders(3)
    assert drained(FLAG, nothing) == {Event.FINISHED: 3}


def test_a_process_that_is_to_end_takes_no_new_row(database, monkeypatch):
    monkeypatch.setattr(hands, "stopping", threading.Event())
    rows = orders(2)
    ended = drained(FLAG, lambda row: hands.stopping.set())
    assert ended == {Event.FINISHED: 1}
    assert drained(FLAG, nothing) == {}
    assert (state(FLAG, rows[1]).flag, state(FLAG, rows[1]).lease) == (True, None)


TRIGGERS = {
    "SqliteDatabase": [
        'CREATE TRIGGER touch AFTER UPDATE OF needs_receipt ON "order"'
        " WHEN NOT NEW.needs_receipt BEGIN"
        ' UPDATE "order" SET needs_receipt = TRUE WHERE id = NEW.id; END'
    ],
    "PooledPostgresqlDatabase": [
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN NEW.needs_receipt = true; RETURN NEW; END'",
        'CREATE TRIGGER touch BEFORE UPDATE ON "order"'
        " FOR EACH ROW EXECUTE FUNCTION touch()",
    ],
    "PooledMySQLDatabase": [
        "CREATE TRIGGER touch BEFORE UPDATE ON `order`"
        " FOR EACH ROW SET NEW.needs_receipt = TRUE"
    ],
}


def test_a_row_that_a_trigger_marks_for_ever_is_one_loud_warning(database, caplog):
    orders(1)
    for statement in TRIGGERS[type(database).__name__]:
        database.execute_sql(statement)
    try:
        ended = drained(FLAG, nothing)
    finally:
        table = ' ON "order"' if "Postgresql" in type(database).__name__ else ""
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
