"""Sweeps ring for the flags that have work due, and for no other."""

from __future__ import annotations

import logging

import pytest
from bells import hanging
from domain import Line, Order, Page, Seat
from looking import now_of, write

import models
from models import NEVER, PendingFlag, PendingModel
from worker import handles, sweep, sweeping
from worker.breaker import Breaker
from worker.brokers import broker
from worker.redis_broker import _HANG
from worker.settings import settings
from worker.sweeping import due_flags

pytestmark = pytest.mark.usefixtures("handlers")


@pytest.fixture(autouse=True)
def clean(redis_client, monkeypatch):
    """Nobody else has work due, and the broker has patience."""
    if hasattr(models, "User"):  # the example
        models.User.delete().execute()
    monkeypatch.setattr(sweeping, "_troubled", {})
    monkeypatch.setattr(broker, "_hang", redis_client.register_script(_HANG))
    monkeypatch.setattr(broker, "breaker", Breaker())


def nothing(row):
    """Handle a row by doing nothing."""


class Ghost(PendingModel):
    """Has no table, at first."""

    needs_body = PendingFlag()


def test_a_sweep_rings_for_exactly_the_flags_that_have_work_due(database, redis_client):
    for flag in (
        Order.needs_receipt,
        Order.needs_label,
        Seat.needs_cleaning,
        Page.needs_index,
    ):
        handles(flag)(nothing)
    order = Order.create(needs_receipt=True, needs_label=True)
    Seat.create(room="a", number=1)
    page = Page.create(path="/", needs_index=True)
    Line.create(order=order, needs_stock=True)  # nobody handles it here
    write(Order.needs_label, order, due=now_of(database, Order.needs_label) + 60_000)
    write(Page.needs_index, page, due=NEVER)
    redis_client.delete(f"{broker.namespace}:pending")
    sweep()
    assert hanging(redis_client) == [("kick", Order.needs_receipt.label)]


def test_a_sweep_with_nothing_due_rings_nothing(database, redis_client, caplog):
    caplog.set_level(logging.INFO, logger="pending")
    handles(Order.needs_receipt)(nothing)
    sweep()
    assert hanging(redis_client) == []
    assert caplog.messages[-1].endswith(" due=none")


def test_a_row_that_is_held_is_not_due_until_its_lease_ends(database):
    handles(Order.needs_receipt)(nothing)
    order = Order.create(needs_receipt=True)
    write(Order.needs_receipt, order, until=now_of(database, Order.needs_receipt) + 9e6)
    assert due_flags() == []
    write(Order.needs_receipt, order, until=1)
    assert due_flags() == [Order.needs_receipt]


def test_a_table_that_cannot_be_read_is_one_error_and_the_others_go_on(
    database, caplog
):
    with database.bind_ctx([Ghost]):
        handles(Ghost.needs_body)(nothing)
        handles(Order.needs_receipt)(nothing)
        Order.create(needs_receipt=True)
        for _ in range(3):
            assert due_flags() == [Order.needs_receipt]
    (line,) = (r for r in caplog.records if r.name == "pending")
    assert line.levelno == logging.ERROR
    start = f"cannot look for due rows flag={label_in(database)}: "
    assert line.message.startswith(start)
    assert len(line.message.splitlines()) == 1


def test_a_table_that_is_back_is_looked_at_again(database, caplog):
    caplog.set_level(logging.INFO, logger="pending")
    with database.bind_ctx([Ghost]):
        handles(Ghost.needs_body)(nothing)
        assert due_flags() == []
        database.create_tables([Ghost])
        try:
            Ghost.create(needs_body=True)
            caplog.clear()
            assert due_flags() == [Ghost.needs_body]
            assert due_flags() == [Ghost.needs_body]
        finally:
            database.drop_tables([Ghost])
    lines = [r.message for r in caplog.records if r.name == "pending"]
    assert lines == [f"looking for due rows again flag={label_in(database)}"]


def label_in(database):
    with database.bind_ctx([Ghost]):
        return Ghost.needs_body.label


def test_the_clock_sends_sweeps_that_expire_and_are_not_retried():
    assert sweep.options["periodic"] is settings.sweep_cron
    assert sweep.options["max_age"] == 40_000
    assert sweep.options["max_retries"] == 0
