"""Bells in RabbitMQ: one of a kind, and no commit ever waits for it."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import dramatiq
import pika
import pytest
from bells import NAMESPACE, bell
from domain import Order
from house import House
from pika.adapters.blocking_connection import BlockingChannel
from postbox import free_port
from proxy import Proxy, _shut, proxied
from python import run_python
from waiting import wait_for

from models.connection import connected
from worker import breaker, handles, rabbit_bells
from worker.choosing import BELLS, SWEEPS
from worker.rabbit_bells import RabbitBells, RabbitConsumer

LABEL = Order.needs_receipt.label
KICK = bell("kick", LABEL)


@pytest.fixture
def channel(rabbitmq_url) -> Iterator[BlockingChannel]:
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connection:
        yield connection.channel()


@pytest.fixture
def bells(rabbitmq_url, channel) -> Iterator[RabbitBells]:
    with ringing(rabbitmq_url) as bells:
        yield bells
    kicks = [f"kick.{label}" for label in (LABEL, Order.needs_label.label, "other")]
    for kind in ("sweep", *kicks):
        channel.queue_delete(f"{NAMESPACE}.pending.{kind}")


@contextmanager
def ringing(url: str) -> Iterator[RabbitBells]:
    bells = RabbitBells(pika.URLParameters(url), NAMESPACE)
    yield bells
    bells.settle()
    bells._disconnect()


@contextmanager
def hearing(bells: RabbitBells, queue: str = BELLS) -> Iterator[RabbitConsumer]:
    consumer = bells.consume(queue, 1, 50)
    try:
        yield consumer
    finally:
        consumer.close()


def hanging(channel, bells: RabbitBells, *kind: str) -> int:
    """How many bells of a kind hang."""
    declared = channel.queue_declare(bells.queue_of(*kind), passive=True)
    return int(declared.method.message_count)


@pytest.fixture
def receipts(handlers):
    handles(Order.needs_receipt)(lambda row: None)


def heard(consumer) -> dramatiq.Message:
    message = wait_for(lambda: next(consumer))
    consumer.ack(message)
    return message


def test_many_kicks_of_a_flag_are_one_message(bells, channel):
    for _ in range(200):
        assert bells.ring(KICK)
        bells.settle()
    assert bells.ring(bell("kick", "other"))
    bells.settle()
    assert hanging(channel, bells, "kick", LABEL) == 1
    assert hanging(channel, bells, "kick", "other") == 1


def test_the_newest_sweep_replaces_the_one_that_hangs(bells, channel, receipts):
    for when in (1, 2):
        bells.ring(bell("sweep", message_timestamp=when))
        bells.settle()
    with hearing(bells, SWEEPS) as consumer:
        assert heard(consumer).message_timestamp == 2
        assert next(consumer) is None


def test_no_more_is_taken_than_may_wait_here(bells, channel, receipts):
    handles(Order.needs_label)(lambda row: None)
    with hearing(bells) as consumer:
        assert next(consumer) is None
        bells.ring(KICK)
        bells.ring(bell("kick", Order.needs_label.label))
        first = wait_for(lambda: next(consumer))
        assert [next(consumer) for _ in range(5)] == [None] * 5
        consumer.ack(first)
        second = wait_for(lambda: next(consumer))
        assert {first.args, second.args} == {(LABEL,), (Order.needs_label.label,)}


def test_a_bell_given_back_is_heard_again(bells, receipts):
    with hearing(bells) as consumer:
        bells.ring(KICK)
        message = wait_for(lambda: next(consumer))
        consumer.requeue([message])
        consumer.ack(message)
        assert heard(consumer).args == (LABEL,)


@pytest.mark.parametrize("trouble", ["gone", "hung"])
def test_ringing_never_waits_for_a_rabbitmq_that_is_gone_or_hung(
    trouble, caplog, monkeypatch
):
    monkeypatch.setattr(breaker, "_FIRST_SECONDS", 5)
    with socket.create_server(("127.0.0.1", 0)) as hung:
        port = hung.getsockname()[1] if trouble == "hung" else free_port()
        with ringing(f"amqp://127.0.0.1:{port}") as bells:
            begun = time.monotonic()
            for _ in range(1_000):
                bells.ring(KICK)
            assert time.monotonic() - begun < rabbit_bells._CONNECTING_SECONDS
            wait_for(lambda: bells.dropped)
            assert not bells.ring(KICK)  # nothing is tried for a while
    (line,) = {r.message for r in caplog.records if r.name == "pending"}
    assert line.startswith("bells dropped for 5 s, each worker looks by itself: ")


def test_what_was_connected_is_connected_again(
    bells, rabbitmq_url, channel, receipts, caplog
):
    caplog.set_level(logging.INFO, logger="pending")
    with (
        proxied(rabbitmq_url) as proxy,
        ringing(proxy.url) as far,
        hearing(far) as consumer,
    ):
        far.ring(KICK)
        assert heard(consumer).args == (LABEL,)
        cut(proxy)
        wait_for(lambda: listened(consumer) and "RabbitMQ is back" in caplog.text)
        far.ring(KICK)
        assert heard(consumer).args == (LABEL,)
    assert far.dropped == 0
    assert "RabbitMQ fails queue=pending: " in caplog.text


def listened(consumer: RabbitConsumer) -> bool:
    """The bell comes again if the cut was quicker than its acknowledgement."""
    if again := next(consumer):
        consumer.ack(again)
    return True


def cut(proxy: Proxy) -> None:
    """Drop every connection through the proxy; new ones are welcome."""
    _shut(*proxy._ends)


def test_a_queue_that_somebody_deleted_is_made_anew(bells, channel, receipts):
    with hearing(bells) as consumer:
        assert next(consumer) is None
        channel.queue_delete(bells.queue_of("kick", LABEL))
        wait_for(lambda: next(consumer) or is_there(channel, bells, "kick", LABEL))
        bells.ring(KICK)
        assert heard(consumer).args == (LABEL,)


def is_there(channel, bells: RabbitBells, *kind: str) -> bool:
    connection = channel.connection
    probe = connection.channel()
    try:
        probe.queue_declare(bells.queue_of(*kind), passive=True)
    except pika.exceptions.ChannelClosedByBroker:
        return False
    return True


JOBS = """
from models import PendingFlag, PendingModel
from worker import handles

class Crate(PendingModel):
    needs_packing = PendingFlag()

@handles(Crate.needs_packing)
def pack(crate):
    pass
"""

MARK = """
from crates import Crate
from worker import broker
Crate.create_table(safe=True)
for _ in range(100):
    Crate.create(needs_packing=True)
"""


def test_our_own_workers_hear_bells_in_rabbitmq(tmp_path, rabbitmq_url, channel):
    """And the queue stays small while they are down."""
    (tmp_path / "crates.py").write_text(JOBS)
    queue = f"{NAMESPACE}.pending.kick.crate.needs_packing"
    with House(
        tmp_path,
        DATABASE_URL=f"sqlite:///{tmp_path / 'crates.db'}",
        BROKER_URL=rabbitmq_url,
        REDIS_URL=f"redis://127.0.0.1:{free_port()}",
        REDIS_NAMESPACE=NAMESPACE,
        SWEEP_SECONDS="3600",
        PENDING_EXAMPLE="0",
        PENDING_MODULES="crates",
    ) as house:
        marked = house.run("python", "-c", MARK)
        assert (marked.returncode, marked.stderr) == (0, "")
        declared = channel.queue_declare(queue, passive=True)
        assert declared.method.message_count == 1
        house.start_worker(processes=1)
        wait_for(lambda: idle(house))
        assert house.run("python", "-c", MARK).returncode == 0
        wait_for(lambda: idle(house))
    for kind in ("sweep", "kick.crate.needs_packing"):
        channel.queue_delete(f"{NAMESPACE}.pending.{kind}")


def idle(house: House) -> bool:
    with connected(house.database):
        query = "SELECT count(*) FROM crate WHERE needs_packing"
        return house.database.execute_sql(query).fetchone()[0] == 0


def test_a_wrong_broker_url_is_one_line():
    for wrong in ("redis://localhost", "amqp://", "rabbit"):
        ended = run_python("import worker", BROKER_URL=wrong)
        assert ended.returncode == 1
        assert ended.stderr.startswith("BROKER_URL: ")
        assert len(ended.stderr.splitlines()) == 1


def test_a_child_rings_by_itself(bells, channel):
    bells.ring(bell("kick", "other"))
    bells.settle()
    if (child := os.fork()) == 0:
        bells.ring(KICK)
        bells.settle()
        os._exit(0)
    os.waitpid(child, 0)
    assert hanging(channel, bells, "kick", LABEL) == 1
