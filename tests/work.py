"""Rows that are due, and handlers for them, without registration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
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
    attempts: int = 10,
    wait: timedelta = HOUR,
) -> Handler:
    """Return a handler whose failed rows do not come back while a test looks."""
    return Handler(flag, function, attempts, wait, max(wait, HOUR))


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
