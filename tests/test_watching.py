"""Each worker process looks by itself: nothing but the database is needed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from bells import bell_broker, working
from domain import Order, Seat
from dramatiq import Middleware
from looking import IDLE, state
from postbox import free_port
from waiting import wait_for

import models
from worker import handles, kick, watching
from worker.listening import listen
from worker.watching import WATCH, Watch

pytestmark = pytest.mark.usefixtures("handlers")


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Look at the database all the time, where nobody else has work due."""
    if hasattr(models, "User"):  # the example
        models.User.delete().execute()
    quick = replace(watching.settings, sweep_every=timedelta(milliseconds=1))
    monkeypatch.setattr(watching, "settings", quick)


@pytest.fixture
def two_flags_due(database):
    for flag in (Order.needs_receipt, Order.needs_label, Seat.needs_cleaning):
        handles(flag)(lambda row: None)
    Order.create(needs_receipt=True, needs_label=True)
    return {Order.needs_receipt.label, Order.needs_label.label}


class Watches(Middleware):
    """Lets a worker watch, as `processes.Life` does."""

    def before_worker_boot(self, broker, worker):
        listen(worker, WATCH, Watch)


def looked(watch, times):
    return [message for message in (next(watch) for _ in range(times)) if message]


def test_each_flag_with_work_due_is_kicked_at_once(two_flags_due):
    watch = Watch()
    first, second = next(watch), next(watch)
    assert {first.args[0], second.args[0]} == two_flags_due
    assert {first.actor_name, second.actor_name} == {"kick"}
    assert {first.queue_name, second.queue_name} == {WATCH}


def test_a_flag_is_not_kicked_again_while_its_kick_is_at_work(two_flags_due):
    watch = Watch()
    first, _ = looked(watch, 2)
    assert looked(watch, 20) == []
    watch.ack(first)
    (again,) = looked(watch, 20)
    assert again.args == first.args
    watch.nack(again)
    assert len(looked(watch, 20)) == 1


def test_with_nothing_due_nothing_is_kicked(database):
    handles(Order.needs_receipt)(lambda row: None)
    Order.create()
    assert looked(Watch(), 20) == []


def test_between_two_looks_the_database_is_left_alone(two_flags_due, monkeypatch):
    slow = replace(watching.settings, sweep_every=timedelta(hours=1))
    monkeypatch.setattr(watching, "settings", slow)
    monkeypatch.setattr(watching, "_NAP_SECONDS", 0.001)
    looks = []
    monkeypatch.setattr(watching, "due_flags", lambda handlers: looks.append(1) or [])
    assert looked(Watch(), 20) == []
    assert looks == [1]


def test_marked_rows_are_handled_without_redis(two_flags_due):
    with bell_broker(f"redis://127.0.0.1:{free_port()}") as broker:
        broker.declare_actor(kick)
        broker.add_middleware(Watches())
        with working(broker):
            (row,) = Order.select()
            for flag in (Order.needs_receipt, Order.needs_label):
                wait_for(lambda flag=flag: state(flag, row) == IDLE)
            Seat.create(room="a", number=1, needs_cleaning=True)
            (seat,) = Seat.select()
            wait_for(lambda: state(Seat.needs_cleaning, seat) == IDLE)
