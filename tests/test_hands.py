"""What waits in a thread's hand, and what is done there."""

from __future__ import annotations

import time

import peewee
from domain import Order
from looking import state
from waiting import wait_for
from work import orders, quick_handler_of

from worker import hands
from worker.events import Event
from worker.handling import drain

FLAG = Order.needs_receipt


def test_a_row_that_could_not_be_given_back_at_once_is_given_back(
    database, monkeypatch
):
    """Else it stays leased, and is a suspect when the lease is over."""
    rows, failures = orders(3), [peewee.OperationalError("for a moment")]
    give_back_all = hands.give_back_all

    def failing_once(claims):
        if failures:
            raise failures.pop()
        return give_back_all(claims)

    def handler(row):
        wait_for(lambda: not failures)
        time.sleep(0.05)

    monkeypatch.setattr(hands, "give_back_all", failing_once)
    drain(quick_handler_of(FLAG, handler), ring=lambda flag: False)
    assert [state(FLAG, row).lease for row in rows] == [None] * 3


def test_a_row_that_was_locked_for_a_moment_is_given_back_all_the_same(
    database, monkeypatch
):
    """By its own hand: the threads that wait for rows may have others to wait for."""
    rows, locked, left = orders(3), ["still", "first"], []
    give_back_all = hands.give_back_all

    def passing_over(claims):
        return [] if locked and locked.pop() else give_back_all(claims)

    def handler(row):
        wait_for(lambda: not locked)

    monkeypatch.setattr(hands, "give_back_all", passing_over)
    monkeypatch.setattr(hands.leases, "later", lambda claim, end: left.append(claim))
    drain(quick_handler_of(FLAG, handler), ring=lambda flag: False)
    assert [state(FLAG, row).lease for row in rows] == [None] * 3
    assert not left


def test_rows_finished_beside_one_that_the_database_refuses_are_not_called_lost(
    database,
):
    rows = orders(6)

    def handler(row):
        if row.id == rows[3].id:
            row.total = 2**70
        else:
            row.customer = "eve"

    handler = quick_handler_of(FLAG, handler)
    ended = drain(handler, ring=lambda flag: False)
    assert ended == {Event.FINISHED: 5, Event.RELEASED: 1}
