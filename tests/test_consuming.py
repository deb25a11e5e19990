"""The consumer waits in Redis, and outlives whatever happens to Redis."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from pathlib import Path

import pytest
import redis
from bells import bell, bell_broker, declare, hanging, keys_left, working
from dramatiq.brokers.redis import RedisBroker
from servers import embedded_redis
from waiting import wait_for

from worker import breaker, redis_broker
from worker.choosing import BELLS
from worker.redis_broker import Expires


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="pending-") as name:
        yield Path(name)


@pytest.fixture
def broker(redis_client):
    with bell_broker(os.environ["REDIS_URL"], middleware=[Expires()]) as broker:
        yield broker


def consumer_of(broker, *, prefetch=1):
    return broker.consume(BELLS, prefetch=prefetch, timeout=50)


def heard(consumer):
    return wait_for(lambda: next(consumer), what="no message")


def test_a_bell_wakes_the_consumer_that_waits(folder, monkeypatch):
    """It hangs in one blocking call, which ends long before its time is over."""
    monkeypatch.setattr(redis_broker, "_CONSUMING_SECONDS", 600)
    server = embedded_redis(folder)
    client = redis.Redis.from_url(server.url)
    with bell_broker(server.url, waits=300) as broker:
        consumer = broker.consume(BELLS, prefetch=1, timeout=300_000)
        found = []

        def consume():
            found.append(next(consumer))

        thread = threading.Thread(target=consume, daemon=True)
        thread.start()
        wait_for(lambda: client.info("clients")["blocked_clients"] == 1)
        broker.ring(bell("kick", "user.needs_x"))
        thread.join(60)
        assert found[0].args == ("user.needs_x",)
    client.close()
    server.stop()


def test_waiting_changes_nothing_in_the_queue(broker, redis_client):
    """One of messages that are no bells."""
    broker.declare_queue("mails")
    for mail in ("one", "other"):
        broker.enqueue(bell("send", mail, queue="mails"))
    broker.consume("mails", prefetch=1, timeout=50)._wait()
    assert hanging(redis_client, "mails") == [("send", "one"), ("send", "other")]


def test_no_more_is_fetched_than_may_wait_here(broker, redis_client):
    for flag in ("one", "two", "three"):
        broker.ring(bell("kick", flag))
    consumer = consumer_of(broker, prefetch=2)
    first, second = heard(consumer), heard(consumer)
    assert next(consumer) is None
    consumer.ack(first)
    assert heard(consumer).args == ("three",)
    assert second.args == ("two",)


@pytest.mark.parametrize("then", [next, lambda consumer: consumer.close()])
def test_a_message_that_was_heard_leaves_nothing_behind(broker, redis_client, then):
    broker.ring(bell("kick", "user.needs_x"))
    consumer = consumer_of(broker)
    consumer.ack(heard(consumer))
    then(consumer)
    assert keys_left(redis_client) == set()


def test_messages_given_back_are_heard_again(broker, redis_client):
    broker.ring(bell("kick", "user.needs_x"))
    consumer = consumer_of(broker)
    consumer.requeue([heard(consumer)])
    assert heard(consumer_of(broker)).args == ("user.needs_x",)


def test_an_emptied_redis_is_no_trouble(folder, caplog):
    server = embedded_redis(folder)
    client = redis.Redis.from_url(server.url)
    with bell_broker(server.url) as broker:
        consumer = consumer_of(broker, prefetch=2)
        broker.ring(bell("kick", "one"))
        broker.ring(bell("kick", "two"))
        taken = heard(consumer)
        client.flushall()
        client.script_flush()
        consumer.ack(taken)
        assert next(consumer) is None
        broker.ring(bell("kick", "three"))
        assert heard(consumer).args == ("three",)
    client.close()
    server.stop()
    assert caplog.records == []


def test_a_restart_of_redis_is_one_warning_and_one_line_when_it_is_back(
    folder, caplog, monkeypatch
):
    monkeypatch.setattr(breaker, "_FIRST_SECONDS", 0)
    caplog.set_level(logging.INFO, logger="pending")
    server = embedded_redis(folder)
    with bell_broker(server.url) as broker:
        consumer = consumer_of(broker, prefetch=2)
        broker.ring(bell("kick", "one"))
        taken = heard(consumer)
        server.stop()
        assert [next(consumer) for _ in range(5)] == [None] * 5
        consumer.ack(taken)
        consumer.requeue([taken])
        server = embedded_redis(folder)
        try:
            assert broker.ring(bell("kick", "two"))
            assert heard(consumer).args == ("two",)
            next(consumer)
        finally:
            server.stop()
    first, last = (r.message for r in caplog.records if "queue=" in r.message)
    assert first.startswith(f"Redis fails queue={BELLS}: ")
    assert last == f"Redis is back queue={BELLS}"


def test_bells_too_old_are_dropped_unheard_and_leave_nothing(broker, redis_client):
    """As after a day without workers, and a clock that coalesced nothing."""
    runs = []
    declare(broker, "sweep", lambda: runs.append("sweep"), max_age=60_000)
    declare(broker, "kick", runs.append)
    stock = RedisBroker(client=redis_client, namespace=broker.namespace)
    for age in range(96):
        stock.enqueue(bell("sweep", message_timestamp=age))
    stock.enqueue(bell("kick", "a year old", message_timestamp=0))
    with working(broker):
        wait_for(lambda: hanging(redis_client) == [])
    assert runs == ["a year old"]
    assert keys_left(redis_client) == set()


def test_a_bell_of_an_unknown_kind_does_not_end_the_worker(broker, redis_client):
    runs = []
    declare(broker, "kick", runs.append)
    broker.ring(bell("stranger"))
    broker.ring(bell("kick", "user.needs_x"))
    with working(broker):
        wait_for(lambda: runs == ["user.needs_x"])


def test_who_listens_says_so_as_dramatiq_s_own_consumers_do(broker, redis_client):
    next(consumer_of(broker))
    beats = redis_client.zrange(f"{broker.namespace}:__heartbeats__", 0, -1)
    assert broker.broker_id.encode() in beats
