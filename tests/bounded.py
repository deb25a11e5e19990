"""Handlers with limits, for real workers: copied into the folder of a `Shop`.

Each call notes when it begins and ends, by a clock that all processes share. No test
imports it: its handlers would be everywhere.
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from peewee import CharField

from models import PendingFlag, PendingModel, database
from worker import current, handles

NOTES = Path(__file__).parent / "calls"
SECONDS = float(os.environ.get("TAKES", "0.05"))
LEASE_MS = 1_000


class Letter(PendingModel):
    customer = CharField()
    needs_post = PendingFlag()
    needs_stamp = PendingFlag()


def note(word: str, letter: Letter) -> None:
    """One line of one write: word, row, customer, attempt, process, times."""
    claimed = letter.needs_post_until - LEASE_MS
    facts = (word, letter.id, letter.customer, current(letter).attempt, os.getpid())
    line = " ".join(map(str, (*facts, time.monotonic(), claimed)))
    with NOTES.open("ab", buffering=0) as file:
        file.write(f"{line}\n".encode())


def fail_at_first(letter: Letter) -> None:
    if letter.customer.startswith("bad") and current(letter).attempt == 1:
        note("fail", letter)
        raise ValueError("at first it fails")


def post(letter: Letter) -> None:
    note("begin", letter)
    time.sleep(SECONDS)
    fail_at_first(letter)
    note("end", letter)


def post_all(letters: list[Letter]) -> None:
    note("begin", letters[0])
    time.sleep(SECONDS)
    note("end", letters[0])


async def post_soon(letter: Letter) -> None:
    note("begin", letter)
    await asyncio.sleep(SECONDS)
    note("end", letter)


KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (post, {}),
    "batch": (post_all, {"batch": 2}),
    "async": (post_soon, {}),
    "atomic": (post, {"atomic": True}),
}
function, options = KINDS[os.environ.get("KIND", "plain")]
if "AT_ONCE" in os.environ:
    options["concurrency"] = int(os.environ["AT_ONCE"])
if "RATE" in os.environ:
    options["rate"] = os.environ["RATE"]
if "IN_ORDER" in os.environ:
    options["serialize_by"] = Letter.customer
handles(Letter.needs_post, wait=timedelta(seconds=0.5), **options)(function)


@handles(Letter.needs_stamp)
def stamp(letter: Letter) -> None:
    """It has no limits."""


def seed(count: int, customers: int, *, bad: int = 0, stamps: int = 0) -> None:
    """Make the table with so many letters; the first customers' fail at first."""
    Letter.create_table()
    with database.atomic():
        for n in range(count):
            customer = n % customers
            name = f"{'bad' if customer < bad else 'good'}{customer}"
            Letter.create(customer=name, needs_post=True)
        for _ in range(stamps):
            Letter.create(customer="", needs_stamp=True)


def pending(name: str) -> int:
    """Return how many letters have the flag of that name."""
    flag = getattr(Letter, name)
    return int(Letter.select().where(flag.dialect.is_set(flag)).count())
