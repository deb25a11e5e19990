"""Pauses are obeyed: by looks, sweeps, kicks and drains, within a second or two."""

from __future__ import annotations

import pytest
from domain import Order
from looking import state
from work import drained, orders

from models import pausing
from models.operations import TABLES
from worker import handles, kick
from worker.events import Event
from worker.pausing import ALL, is_paused, pause, pauses, resume
from worker.resting import look_again
from worker.sweeping import due_flags

FLAG, OTHER = Order.needs_receipt, Order.needs_label


@pytest.fixture(autouse=True)
def read_each_time(monkeypatch):
    monkeypatch.setattr("worker.pausing._FRESH_SECONDS", 0)
    monkeypatch.setattr("worker.pausing._MISSING_SECONDS", 0)
    pauses.forget()
    yield
    pauses.forget()


@pytest.mark.parametrize("label", [FLAG.label, ALL])
def test_a_paused_flag_is_not_drained_until_it_is_resumed(operations, label):
    label = FLAG.label if label != ALL else ALL
    rows = orders(2)
    pause(label, by="dan")
    assert drained(FLAG, lambda row: None) == {}
    assert state(FLAG, rows[0]).attempts == 0
    assert resume(label, by="dan")
    assert drained(FLAG, lambda row: None) == {Event.FINISHED: 2}


def test_what_waited_for_the_end_of_a_pause_is_looked_for_at_once(operations):
    pause(FLAG.label, by="dan")
    assert is_paused(FLAG)
    look_again.clear()
    assert is_paused(FLAG)
    assert not look_again.is_set()
    resume(FLAG.label, by="dan")
    assert not is_paused(FLAG)
    assert look_again.is_set()


def test_a_pause_of_one_flag_holds_no_other_back(operations):
    Order.create(needs_label=True)
    pause(FLAG.label, by="dan")
    assert is_paused(FLAG)
    assert not is_paused(OTHER)
    assert drained(OTHER, lambda row: None) == {Event.FINISHED: 1}


def test_a_drain_under_way_stops_after_the_row_in_hand(operations):
    orders(5)
    done = []

    def handler(row):
        done.append(row.id)
        if len(done) == 2:
            pause(ALL, by="dan")

    assert drained(FLAG, handler) == {Event.FINISHED: 2}


def test_kicks_and_looks_pass_over_what_is_paused(operations, handlers):
    done = []
    handles(FLAG)(lambda row: done.append(row.id))
    orders(1)
    pause(FLAG.label, by="dan")
    kick(FLAG.label)
    assert FLAG not in due_flags()
    assert done == []
    resume(FLAG.label, by="dan")
    assert FLAG in due_flags()
    kick(FLAG.label)
    assert len(done) == 1


def test_where_pauses_cannot_be_read_what_was_known_holds(operations):
    pause(FLAG.label, by="dan")
    assert is_paused(FLAG)
    operations.drop_tables(TABLES)
    assert is_paused(FLAG)
    assert not is_paused(OTHER)
    pauses.forget()
    assert not is_paused(FLAG)


def test_a_process_whose_reporter_reads_asks_nothing_itself(operations, monkeypatch):
    monkeypatch.setattr(pauses, "watched", True)
    monkeypatch.setattr(pausing, "pauses", lambda: 1 / 0)
    assert not is_paused(FLAG)


def test_reading_leaves_the_thread_s_connection_as_it_was(operations):
    assert not operations.is_closed()
    pauses.read()
    assert not operations.is_closed()
    operations.close()
    pauses.read()
    assert operations.is_closed()
    operations.connect()


def test_who_paused_and_resumed_is_logged(operations, caplog):
    caplog.set_level("INFO", logger="pending")
    pause(FLAG.label, by="dan", reason="a flood")
    resume(FLAG.label, by="eve")
    assert not resume(FLAG.label, by="eve")
    paused, resumed = caplog.messages
    assert paused == (f"paused flag={FLAG.label} by=dan until=resumed reason=a flood")
    assert resumed == f"resumed flag={FLAG.label} by=eve"
