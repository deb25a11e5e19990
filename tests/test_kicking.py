"""Step 3 on every database: marks that are committed ring one bell a flag."""

from __future__ import annotations

import logging

import pytest
from bells import hanging
from domain import Order

from models import PendingFlag, PendingModel
from models.marking import mark_pending, unmark
from worker import handles, kick, kicking
from worker.breaker import Breaker
from worker.brokers import broker
from worker.redis_broker import _HANG

pytestmark = pytest.mark.usefixtures("handlers")


@pytest.fixture(autouse=True)
def bell(redis_client, monkeypatch):
    """The process's broker, with the patience that a slow machine needs."""
    monkeypatch.setattr(broker, "_hang", redis_client.register_script(_HANG))
    monkeypatch.setattr(broker, "breaker", Breaker())
    monkeypatch.setattr(kicking, "_strangers", set())


def kicks(*flags):
    return [("kick", flag.label) for flag in flags]


def test_a_mark_rings_after_the_commit(database, redis_client):
    with database.atomic():
        row = Order.create(needs_receipt=True)
        mark_pending(row, Order.needs_receipt)
        assert hanging(redis_client) == []
    assert hanging(redis_client) == kicks(Order.needs_receipt)


def test_each_flag_that_was_marked_rings(database, redis_client):
    with database.atomic():
        Order.create(needs_receipt=True)
        Order.create(needs_label=True)
        Order.create(needs_label=True)
    both = kicks(Order.needs_receipt, Order.needs_label)
    assert sorted(hanging(redis_client)) == sorted(both)


def test_what_is_rolled_back_rings_nothing(database, redis_client):
    with database.atomic() as transaction:
        Order.create(needs_receipt=True)
        transaction.rollback()
    assert hanging(redis_client) == []


def test_an_unmark_and_a_mark_of_nothing_ring_nothing(database, redis_client):
    row = Order.create()
    unmark(row, Order.needs_receipt)
    mark_pending(Order.select().where(Order.id < 0), Order.needs_receipt)
    assert hanging(redis_client) == []


def test_a_kick_has_its_flag_s_rows_handled(database):
    rows = [Order.create(needs_receipt=True) for _ in range(3)]
    seen = []
    handles(Order.needs_receipt)(seen.append)
    kick(Order.needs_receipt.label)
    assert sorted(row.id for row in seen) == [row.id for row in rows]


def test_a_drain_rings_for_others_to_join(database, redis_client):
    Order.create(needs_receipt=True)
    Order.create(needs_receipt=True)
    handles(Order.needs_receipt)(lambda row: None)
    kick(Order.needs_receipt.label)
    assert hanging(redis_client) == kicks(Order.needs_receipt)


def test_a_flag_without_a_handler_is_one_warning(database, caplog):
    Order.create(needs_receipt=True)
    for _ in range(3):
        kick(Order.needs_receipt.label)
        kick("nobody.needs_anything")
    warned = [r for r in caplog.records if "there is no handler" in r.message]
    assert {record.levelno for record in warned} == {logging.WARNING}
    assert [record.message.rpartition("flag=")[2] for record in warned] == [
        Order.needs_receipt.label,
        "nobody.needs_anything",
    ]


def test_a_kick_never_raises_when_the_database_does(database, caplog):
    """It would be dead-lettered; the next bell looks again."""

    class Ghost(PendingModel):
        """Has no table."""

        needs_body = PendingFlag()

    with database.bind_ctx([Ghost]):
        handles(Ghost.needs_body)(lambda row: None)
        kick(Ghost.needs_body.label)
        label = Ghost.needs_body.label
    (line,) = (r for r in caplog.records if r.name == "pending")
    assert line.levelno == logging.ERROR
    assert line.message.startswith(f"drain failed, the next look goes on flag={label}:")
    assert len(line.message.splitlines()) == 1


def test_kicks_are_neither_retried_nor_timed():
    """A handler may take as long as it takes; the row knows of failures."""
    assert kick.options == {"max_retries": 0, "time_limit": float("inf")}
