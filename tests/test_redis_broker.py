"""Bells in a real Redis: at most one of a kind hangs, in dramatiq's own format."""

from __future__ import annotations

import os
import threading

import pytest
from bells import (
    NAMESPACE,
    bell,
    bell_broker,
    declare,
    hanging,
    keys_left,
    messages,
    stored,
    working,
)
from dramatiq.brokers.redis import RedisBroker
from waiting import wait_for

from worker.choosing import BELLS


@pytest.fixture
def broker(redis_client):
    with bell_broker(os.environ["REDIS_URL"]) as broker:
        yield broker


def test_many_kicks_of_a_flag_are_one_message(broker, redis_client):
    assert all(broker.ring(bell("kick", "user.needs_x")) for _ in range(50))
    assert hanging(redis_client) == [("kick", "user.needs_x")]
    assert stored(redis_client) == 1


def test_kicks_of_different_flags_are_a_message_each(broker, redis_client):
    flags = ["user.needs_x", "user.needs_xy", "user.needs", "other/user.needs_x", "ü"]
    for flag in flags * 3:
        assert broker.ring(bell("kick", flag))
    assert hanging(redis_client) == [("kick", flag) for flag in flags]


def test_a_kick_and_a_sweep_are_a_message_each(broker, redis_client):
    broker.ring(bell("kick", "sweep"))
    broker.ring(bell("sweep"))
    broker.ring(bell("sweeper"))
    assert hanging(redis_client) == [("kick", "sweep"), ("sweep",), ("sweeper",)]


def test_the_newest_sweep_replaces_the_one_that_hangs(broker, redis_client):
    """Else one that was sent while the workers were down would expire unheard."""
    for age in (3, 2, 1):
        broker.ring(bell("sweep", message_timestamp=1_000_000 - age))
    (left,) = messages(redis_client)
    assert left.message_timestamp == 999_999


def test_a_message_in_work_hinders_no_new_one(broker, redis_client):
    consumer = broker.consume(BELLS, prefetch=2, timeout=50)
    broker.ring(bell("kick", "user.needs_x"))
    heard = next(consumer)
    broker.ring(bell("kick", "user.needs_x"))
    assert hanging(redis_client) == [("kick", "user.needs_x")]
    assert next(consumer).args == heard.args
    consumer.close()
    assert stored(redis_client) == 0


def test_ringing_from_many_threads_leaves_one_message(broker, redis_client):
    def ring():
        for _ in range(20):
            broker.ring(bell("kick", "user.needs_x"))

    threads = [threading.Thread(target=ring) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hanging(redis_client) == [("kick", "user.needs_x")]


def test_a_queue_that_is_long_already_gets_no_more(broker, redis_client):
    for number in range(256):
        assert broker.ring(bell("kick", f"flag {number}"))
    assert broker.ring(bell("kick", "one too many"))
    assert len(hanging(redis_client)) == stored(redis_client) == 256


def test_dramatiq_s_own_broker_understands_the_bells(broker, redis_client):
    broker.ring(bell("kick", "user.needs_x"))
    stock = RedisBroker(client=redis_client, namespace=NAMESPACE)
    consumer = stock.consume(BELLS, prefetch=1, timeout=50)
    message = next(consumer)
    assert (message.actor_name, message.args) == ("kick", ("user.needs_x",))
    assert message.queue_name == BELLS
    consumer.ack(message)
    assert stored(redis_client) == 0


def test_messages_of_dramatiq_s_own_broker_are_understood(broker, redis_client):
    stock = RedisBroker(client=redis_client, namespace=NAMESPACE)
    stock.enqueue(bell("kick", "user.needs_x"))
    message = next(broker.consume(BELLS, prefetch=1, timeout=50))
    assert (message.actor_name, message.args) == ("kick", ("user.needs_x",))


def test_an_actor_on_the_queue_of_bells_is_sent_as_a_bell(broker, redis_client):
    kick = declare(broker, "kick", lambda label: None)
    kick.send("user.needs_x")
    kick.send("user.needs_x")
    assert hanging(redis_client) == [("kick", "user.needs_x")]


def test_bells_have_no_delay_queue_and_others_do(broker):
    declare(broker, "kick", lambda label: None)
    declare(broker, "resize", lambda: None, queue_name="images")
    assert broker.get_declared_queues() == {BELLS, "images"}
    assert broker.get_declared_delay_queues() == {"images.DQ"}


def test_other_actors_work_as_ever_each_message_of_its_own(broker, redis_client):
    heard = []
    resize = declare(broker, "resize", heard.append, queue_name="images")
    for _ in range(3):
        resize.send("cat.png")
    assert hanging(redis_client, "images") == [("resize", "cat.png")] * 3
    with working(broker):
        wait_for(lambda: len(heard) == 3)
        resize.send_with_options(args=("dog.png",), delay=10)
        wait_for(lambda: heard[3:] == ["dog.png"])
    assert stored(redis_client, "images") == stored(redis_client, "images.DQ") == 0


def test_bells_are_heard_by_a_worker_and_leave_nothing(broker, redis_client):
    heard = []
    kick = declare(broker, "kick", heard.append)
    with working(broker):
        kick.send("user.needs_x")
        wait_for(lambda: heard == ["user.needs_x"])
        kick.send("user.needs_x")
        wait_for(lambda: heard == ["user.needs_x"] * 2)
    assert keys_left(redis_client) == set()
