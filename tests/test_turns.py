"""Flags take turns: a drain calls others to join, makes room, and can be ended."""

from __future__ import annotations

import threading

import pytest
from domain import Order
from looking import state
from work import drained, handler_of, nothing, orders

from worker import handling
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
    monkeypatch.setattr(handling, "stopping", threading.Event())
    rows = orders(2)
    ended = drained(FLAG, lambda row: handling.stopping.set())
    assert ended == {Event.FINISHED: 1}
    assert drained(FLAG, nothing) == {}
    assert (state(FLAG, rows[1]).flag, state(FLAG, rows[1]).lease) == (True, None)
