"""dramatiq on Redis, plain: messages with keys, sent after the commit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from peers import users

dramatiq.set_broker(
    RedisBroker(url=os.environ["REDIS_URL"], namespace=os.environ["REDIS_NAMESPACE"])
)


@dramatiq.actor
def welcome(key: int) -> None:
    users.welcome(key)


install = users.install


def enqueue(emails: Iterable[str], committed: Callable[[], None]) -> None:
    for email in emails:
        key = users.insert(email)
        committed()
        welcome.send(key)


def bulk(keys: Sequence[int]) -> None:
    dramatiq.group(welcome.message(key) for key in keys).run()
