"""Hooks hear of failures, and never harm the drain."""

from __future__ import annotations

import threading
import time

import pytest
from domain import Order, Seat
from looking import state
from work import drained, orders

from worker import Failure, GiveUp, hooks, on_failed, on_parked, redact
from worker.events import Event
from worker.hooks import tell, told

FLAG = Order.needs_receipt


@pytest.fixture(autouse=True)
def nobody_listens(monkeypatch):
    for name in ("_on_failed", "_on_parked", "_redactions"):
        monkeypatch.setattr(hooks, name, [])
    yield
    assert told(seconds=10)


def boom(row):
    raise ValueError("secret 4711")


def test_each_failure_is_told_once_with_all_that_is_known(database):
    heard = []
    on_failed(heard.append)
    (row,) = orders(1)
    drained(FLAG, boom)
    assert told(seconds=10)
    (failure,) = heard
    assert (failure.flag, failure.key, failure.attempt) == (FLAG.label, str(row.id), 1)
    assert failure.error.startswith("ValueError: secret 4711 (")
    assert not failure.parked


def test_a_parked_row_is_a_failure_too_and_is_told_to_both(database):
    failed, parked = [], []
    on_failed(failed.append)
    on_parked(parked.append)
    Seat.create(room="a", number=1, needs_cleaning=True)

    def give_up(row):
        raise GiveUp("no such seat")

    drained(Seat.needs_cleaning, give_up)
    assert told(seconds=10)
    label = Seat.needs_cleaning.label
    expected = Failure(label, "a,1", 1, "no such seat", parked=True)
    assert failed == parked == [expected]


def test_what_succeeds_is_told_to_nobody(database):
    heard = []
    on_failed(heard.append)
    on_parked(heard.append)
    orders(2)
    drained(FLAG, lambda row: None)
    assert told(seconds=1)
    assert heard == []


def test_a_hook_that_raises_reaches_neither_the_drain_nor_the_others(database, caplog):
    heard = []
    on_failed(lambda failure: 1 / 0)
    on_failed(heard.append)
    orders(2)
    assert drained(FLAG, boom) == {Event.RELEASED: 2}
    assert told(seconds=10)
    assert len(heard) == 2
    assert caplog.text.count("a hook failed hook=") == 2


def test_a_hook_that_hangs_delays_no_row(database):
    free = threading.Event()
    on_failed(lambda failure: free.wait(30))
    orders(5)
    began = time.monotonic()
    assert drained(FLAG, boom) == {Event.RELEASED: 5}
    assert time.monotonic() - began < 10
    assert not told(seconds=0.05)
    free.set()


def test_what_hooks_cannot_take_is_dropped_with_one_line(monkeypatch, caplog):
    monkeypatch.setattr(hooks, "_MOST_WAITING", 3)
    monkeypatch.setattr(hooks, "_teller", hooks._Teller())
    began, free = threading.Event(), threading.Event()
    on_failed(lambda failure: began.set() or free.wait(30))
    failure = Failure("a.b", "1", 1, "x", parked=False)
    tell(failure)
    assert began.wait(30)
    for _ in range(20):
        tell(failure)
    assert caplog.text.count("hooks are too slow") == 1
    free.set()


def test_an_error_is_redacted_before_it_is_stored_logged_or_told(database, caplog):
    heard = []
    on_failed(heard.append)
    redact(lambda text: text.replace("4711", "****"))
    (row,) = orders(1)
    drained(FLAG, boom)
    assert told(seconds=10)
    assert state(FLAG, row).error.startswith("ValueError: secret **** (")
    assert heard[0].error.startswith("ValueError: secret **** (")
    assert "4711" not in caplog.text


def test_the_reason_of_a_row_that_was_given_up_is_redacted_too(database):
    redact(lambda text: text.replace("dan@example.com", "…"))
    (row,) = orders(1)

    def give_up(row):
        raise GiveUp("dan@example.com was refused")

    drained(FLAG, give_up)
    assert state(FLAG, row).error == "… was refused"


def test_a_redaction_that_fails_withholds_the_text(database):
    @redact
    def broken(text):
        raise RuntimeError(text)

    (row,) = orders(1)
    assert drained(FLAG, boom) == {Event.RELEASED: 1}
    assert "secret" not in state(FLAG, row).error
    assert "broken failed" in state(FLAG, row).error
