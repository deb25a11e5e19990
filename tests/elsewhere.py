"""Other threads with connections and locks of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Event
from typing import TypeVar

import peewee
from waiting import wait_for

from models.connection import connected
from models.dialects import dialect_of

T = TypeVar("T")


def in_threads(
    database: peewee.Database, count: int, act: Callable[[int], T]
) -> list[T]:
    """Run `act(number)` in `count` threads that start together; return the results."""
    start = Barrier(count)

    def run(number: int) -> T:
        with connected(database):
            start.wait(60)
            return act(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@contextmanager
def open_transaction(
    database: peewee.Database, act: Callable[[], object]
) -> Iterator[None]:
    """Run `act` in a transaction of another connection, which commits at the end.

    If another transaction is in its way, as in that of an application whose isolation
    is stricter, it is tried again.
    """
    done, end = Event(), Event()

    def attempt() -> None:
        with database.atomic():
            act()
            done.set()
            assert end.wait(60)

    def run() -> None:
        with connected(database):
            while True:
                try:
                    return attempt()
                except peewee.OperationalError as error:
                    conflicts = dialect_of(database).is_conflict(error)
                    if done.is_set() or not conflicts:
                        raise

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(run)
        try:
            wait_for(lambda: done.is_set() or other.done())
            yield
        finally:
            end.set()
            other.result()
