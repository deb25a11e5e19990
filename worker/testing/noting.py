"""What was marked, and which bells were rung, while a test looked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

import peewee

from models import PendingFlag
from models.claiming import Claim
from models.committing import on_mark
from models.dialects import keys_of
from models.finding import flags as all_flags
from models.finishing import finish
from models.writing import MarkingQuery

from .. import ending
from ..brokers import bells
from ..choosing import BELLS, SWEEPS, bells_of, kick_name
from .stage import name_of

_execute = MarkingQuery._execute


class Mark(NamedTuple):
    """One row that was marked.

    Attributes:
        flag: `<table>.<flag>`.
        key: the row's primary key; a tuple if it has several columns.
    """

    flag: str
    key: Any


@contextmanager
def marks() -> Iterator[list[Mark]]:
    """Note the marks made while the block runs, in their order; those of one statement
    in the order of their keys. Marks in plain SQL are not seen."""
    made: list[Mark] = []
    with ExitStack() as stack:
        if not _looking:
            execute = mock.patch.object(MarkingQuery, "_execute", _execute_noting)
            stack.enter_context(execute)
            stack.enter_context(mock.patch.object(ending, "finish", _finish_noting))
        with _among(_looking, made):
            yield made


@contextmanager
def kicks() -> Iterator[list[str]]:
    """Note the flags, as `<table>.<flag>`, whose bells are rung while the block runs.

    A bell is rung after the commit, once a transaction; so there is none in a test
    that never commits, outside of `crashing()`.
    """
    rung: list[str] = []
    with _among(_hearing, rung):
        yield rung


def flush() -> None:
    """Empty the queue: whoever looks at `kicks()` has heard nothing, and where bells
    hang in a broker all that hang there are gone.

    Raises:
        dramatiq.ConnectionError, redis.RedisError: the broker failed.
    """
    for rung in _hearing:
        rung.clear()
    if bells.are_wanted:
        for queue in _queues():
            bells.broker.flush(queue)


_looking: list[list[Mark]] = []
_hearing: list[list[str]] = []


def _queues() -> list[str]:
    """Return where bells hang; in RabbitMQ each has a queue of its own."""
    flags = list(all_flags())
    if hasattr(bells.place, "queue_of"):
        kicked = [bells.place.queue_of(kick_name(one), one.label) for one in flags]
        return [bells.place.queue_of("sweep"), *kicked]
    queues = {BELLS, SWEEPS, *map(bells_of, flags)}
    if bells.are_in_memory:  # it knows no others
        queues &= bells.broker.get_declared_queues()
    return sorted(queues)


@contextmanager
def _among(lists: list[list[Any]], one: list[Any]) -> Iterator[None]:
    lists.append(one)
    try:
        yield
    finally:
        lists[:] = [other for other in lists if other is not one]


@on_mark
def _hear(flag: PendingFlag) -> None:
    for rung in _hearing:
        rung.append(name_of(flag))


def _execute_noting(query: Any, database: peewee.Database) -> Any:
    with _noted(query.marks, database):
        return _execute(query, database)


def _finish_noting(claim: Claim) -> bool:
    flag = claim.flag
    with _noted(flag.model._meta.flags, flag.database):
        return finish(claim)


@contextmanager
def _noted(flags: Iterable[PendingFlag], database: peewee.Database) -> Iterator[None]:
    before = {flag: _pending(flag, database) for flag in flags}
    yield
    for flag, known in before.items():
        for key, at in _pending(flag, database).items():
            if known.get(key) != at:
                mark = Mark(name_of(flag), key[0] if len(key) == 1 else key)
                for made in _looking:
                    made.append(mark)


def _pending(flag: PendingFlag, database: peewee.Database) -> dict[Any, int]:
    """Return when each pending row was marked, by its key."""
    keys = keys_of(flag.model)
    rows = flag.model.select(*keys, flag.at).where(flag.dialect.is_set(flag))
    found = rows.order_by(*keys).tuples().bind(database)
    return {tuple(key): at for *key, at in found}
