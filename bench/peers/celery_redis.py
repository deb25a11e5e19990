"""Celery on Redis: early acknowledgement, no results, prefetch for short tasks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

import celery

from peers import users


def _broker_url() -> str:
    url = os.environ["REDIS_URL"]
    return url.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")


app = celery.Celery("bench", broker=_broker_url())
app.conf.update(
    broker_transport_options={"global_keyprefix": os.environ["REDIS_NAMESPACE"]},
    task_ignore_result=True,
    worker_prefetch_multiplier=64,
)


@app.task
def welcome(key: int) -> None:
    users.welcome(key)


install = users.install


def enqueue(emails: Iterable[str], committed: Callable[[], None]) -> None:
    for email in emails:
        key = users.insert(email)
        committed()
        welcome.delay(key)


def bulk(keys: Sequence[int]) -> None:
    celery.group(welcome.s(key) for key in keys).apply_async()
