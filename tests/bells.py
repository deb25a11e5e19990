"""What hangs in Redis, and brokers of the tests' own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import dramatiq
import redis
from dramatiq import Message, Middleware

from worker import redis_broker
from worker.choosing import BELLS
from worker.redis_broker import BellBroker

NAMESPACE = os.environ["REDIS_NAMESPACE"]

#: Longer than the slowest machine takes to answer.
PATIENT = 20.0


@contextmanager
def bell_broker(
    url: str, *, middleware: Sequence[Middleware] = (), waits: float = PATIENT
) -> Iterator[BellBroker]:
    """A broker that waits for Redis so many seconds, both to ring and to consume."""
    with (
        mock.patch.object(redis_broker, "_RINGING_SECONDS", waits),
        mock.patch.object(redis_broker, "_CONSUMING_SECONDS", waits),
    ):
        broker = BellBroker(url=url, namespace=NAMESPACE, middleware=list(middleware))
    try:
        yield broker
    finally:
        broker.close()
        broker.client.close()
        broker._hang.registered_client.close()


def bell(actor: str, *arguments: Any, queue: str = BELLS, **changes: Any) -> Message:
    """Return a message as an actor makes it."""
    return Message(queue, actor, arguments, {}, {}).copy(**changes)


def empty(client: redis.Redis) -> None:
    """Remove this run's keys: the server is others' too."""
    for key in client.scan_iter(f"{NAMESPACE}:*"):
        client.delete(key)


def hanging(client: redis.Redis, queue: str = BELLS) -> list[tuple[Any, ...]]:
    """What hangs in the queue, from the front: each the actor and its arguments."""
    return [(m.actor_name, *m.args) for m in messages(client, queue)]


def messages(client: redis.Redis, queue: str = BELLS) -> list[Message]:
    """The messages of the queue, from the front."""
    key = f"{NAMESPACE}:{queue}"
    ids = client.lrange(key, 0, -1)
    found = [client.hget(f"{key}.msgs", one) for one in ids]
    return [Message.decode(data) for data in found if data]


def stored(client: redis.Redis, queue: str = BELLS) -> int:
    """How many messages are kept, in the queue or in somebody's hands."""
    return int(client.hlen(f"{NAMESPACE}:{queue}.msgs"))


def keys_left(client: redis.Redis) -> set[str]:
    """The keys of these tests, but for the list of the brokers that were alive."""
    keys = {key.decode() for key in client.scan_iter(f"{NAMESPACE}:*")}
    return keys - {f"{NAMESPACE}:__heartbeats__"}


def declare(
    broker: BellBroker, name: str, function: Callable[..., object], **options: Any
) -> Any:
    """Make `function` an actor of this broker: a bell, unless told."""
    options = {"queue_name": BELLS, **options}
    return dramatiq.actor(function, broker=broker, actor_name=name, **options)


@contextmanager
def working(broker: BellBroker) -> Iterator[None]:
    """Let one thread hear the broker's messages for as long as the block lasts."""
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=100)
    worker.start()
    try:
        yield
    finally:
        worker.stop(timeout=60_000)
