"""A worker that dies at a step of its handler: in truth, or in the simulation.

Run as a program, with the URL of an empty database and a kind of handler, it forks a
worker for each step, which dies in truth there, by SIGKILL; and prints what it left.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import peewee
from domain import MODELS, Order, Seat
from playhouse.pool import PooledDatabase

from models.connection import database_from_url
from worker import handles
from worker.testing import drain
from worker.testing.stage import Stage
from worker.testing.steps import steps

FLAG = Order.needs_receipt


def write(order: Order) -> None:
    """Two statements, each committed by itself."""
    Seat.create(room="a", number=1)
    Order.update(total=Order.total + 1).execute()
    order.customer = "eve"


def write_together(order: Order) -> None:
    """Two statements that commit together, and one that does by itself."""
    with order._meta.database.atomic():
        write(order)
    Seat.create(room="b", number=2)


HANDLERS: dict[str, tuple[Callable[[Order], None], dict[str, Any]]] = {
    "plain": (write, {}),
    "block": (write_together, {}),
    "atomic": (write_together, {"atomic": True}),
}


def left() -> list[tuple[Any, ...]]:
    """Return what is in the database, but for times and tokens."""
    held = FLAG.lease.is_null(False)
    columns = (FLAG, FLAG.attempts, FLAG.crashes, held, Order.customer, Order.total)
    seats = Seat.select(Seat.room, Seat.number).order_by(Seat.room).tuples()
    return [*Order.select(*columns).tuples(), *seats]


class InTruth(Stage):
    """The stage's steps, in transactions that are none of a test."""

    def __init__(self, database: peewee.Database) -> None:
        super().__init__(database)
        self._is_fragile, execute = False, database.execute_sql
        verbs = {
            "SAVEPOINT pending_stage": "BEGIN",
            "RELEASE SAVEPOINT pending_stage": "COMMIT",
        }
        self._execute = lambda sql, *args: execute(verbs.get(sql, sql), *args)


def die_at(step: int) -> None:
    """Let this process be killed at its `step`, from 1."""
    reached = steps.reached

    def die(name: str) -> None:
        reached(name)
        if len(steps.names) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    steps.reached = die  # type: ignore[method-assign]
    steps.begin(fatal=0)


def left_by_the_killed(
    database: peewee.Database, kind: str
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield what is left when a worker was killed at the first step, the next, …"""
    function, options = HANDLERS[kind]
    handles(FLAG, **options)(function)
    for step in count(1):
        with database.connection_context():
            Seat.delete().execute()
            Order.delete().execute()
            Order.create(needs_receipt=True)
        if isinstance(database, PooledDatabase):
            database.close_idle()
        if not (child := os.fork()):
            die_at(step)
            with database.connection_context(), InTruth(database):
                drain(FLAG)
            os._exit(0)
        if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            return
        with database.connection_context():
            yield left()


if __name__ == "__main__":
    url, kind = sys.argv[1:]
    database = database_from_url(url)
    with database.bind_ctx(MODELS):
        with database.connection_context():
            database.create_tables(MODELS)
        print(json.dumps([*left_by_the_killed(database, kind)]))  # noqa: T201
