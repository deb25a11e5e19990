"""Rows that are due, and handlers for them, without registration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from domain import Order
from looking import write

from models import PendingFlag
from worker.events import Event
from worker.handlers import Handler
from worker.handling import drain

HOUR = timedelta(hours=1)


def handler_of(
    flag: PendingFlag,
    function: Callable[[Any], object],
    *,
    wait: timedelta = HOUR,
    **options: Any,
) -> Handler:
    """Return a handler whose failed rows do not come back while a test looks."""
    waits = {"wait": wait, "longest_wait": max(wait, HOUR)}
    return Handler(flag, function, **waits, **options)


def quick_handler_of(
    flag: PendingFlag, function: Callable[[Any], object], **options: Any
) -> Handler:
    """Return a handler that is known to be quick: its first claim is a large one."""
    handler = handler_of(flag, function, **options)
    handler.pace.rows = 50
    return handler


def drained(
    flag: PendingFlag, function: Callable[[Any], object], **options: Any
) -> Counter[Event]:
    """Drain the flag through `function`; no bell can be rung."""
    return drain(handler_of(flag, function, **options), ring=lambda flag: False)


def nothing(row: Any) -> None:
    """Handle a row by doing nothing."""


def orders(number: int) -> list[Order]:
    """Return so many new rows, all due, in the order of their due times."""
    rows = [Order.create(needs_receipt=True) for _ in range(number)]
    for due, row in enumerate(rows, 1):
        write(Order.needs_receipt, row, due=due)
    return rows


@contextmanager
def draining(handler: Handler) -> Iterator[Future[Counter[Event]]]:
    """Drain in another thread, which has come to its end when the block is left."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(drain, handler, ring=lambda flag: False)


def bell_for(handler: Handler) -> None:
    """Let a second thread hear a bell for the handler's flag."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(drain, handler, ring=lambda flag: False).result(60)
