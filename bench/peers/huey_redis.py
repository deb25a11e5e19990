"""Huey on Redis, as it comes: a blocking pop, results of None are not stored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from huey import RedisHuey

from peers import users

huey = RedisHuey(os.environ["REDIS_NAMESPACE"], url=os.environ["REDIS_URL"])


@huey.task()
def welcome(key: int) -> None:
    users.welcome(key)


install = users.install


def enqueue(emails: Iterable[str], committed: Callable[[], None]) -> None:
    for email in emails:
        key = users.insert(email)
        committed()
        welcome(key)


def bulk(keys: Sequence[int]) -> None:
    welcome.map(keys)
