"""Its handlers, one of each kind."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from peewee import IntegrityError

from worker import RetryLater, handles

from . import post
from .tables import Book, Fee, Letter, Loan, Member, database


@handles(Member.needs_greeting, time_limit=timedelta(seconds=30))
async def greet(member: Member) -> None:
    await asyncio.sleep(0)
    await post.send_soon(f"hello {member.name}")
    member.greeting = "sent"


@handles(Book.needs_indexing, batch=10)
def index(books: list[Book]) -> list[Exception | None]:
    post.send(f"{len(books)} books")
    return [ValueError("untitled") if not book.title else None for book in books]


@handles(Loan.needs_reminder, attempts=3)
def remind(loan: Loan) -> None:
    if post.is_closed:
        raise RetryLater(timedelta(hours=12), "closed")
    post.send(f"remember {loan.book.title}")


@handles(Loan.needs_fee, atomic=True)
def charge(loan: Loan) -> None:
    Fee.create(loan=loan, cents=50)
    loan.needs_receipt = True


@handles(Loan.needs_receipt)
def send_receipt(loan: Loan) -> None:
    """Send it once: whoever takes over finds the letter, or sends it under its key."""
    key = Loan.needs_receipt.key_of_mark(loan)
    try:
        Letter.create(key=key)
    except IntegrityError:
        assert not database.in_transaction()
    post.send_once(key)
