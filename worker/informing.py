"""The attempt that is under way, for handlers that ask: `current()`.

A call leaves a note of its claims in a context variable, and no more: the rest is
worked out when somebody asks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from models import FlagError, PendingFlag
from models.claiming import Claim
from models.instants import instant

from .handlers import Handler


class NoAttempt(FlagError, LookupError):
    """No handler is at work here, or not with this row."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A handler's attempt at a row.

    Attributes:
        flag: whose work it is.
        attempt: 1 for the first one of this mark.
        crashes: how many workers died of the row, one after the other, before this.
        key: names the mark, the same for each attempt at it: for whatever recognises
            repetitions. The flag's `key_of_mark` of the row.
        marked_at: when the row was marked, by the database's clock; aware.
        deadline: when the time limit of this call ends, by this host's clock; aware.
            None: it has no limit.
    """

    flag: PendingFlag
    attempt: int
    crashes: int
    key: str
    marked_at: datetime
    deadline: datetime | None
    _ends: float | None

    @property
    def remaining(self) -> timedelta | None:
        """How long the call may go on, not below zero; None: it has no limit."""
        if self._ends is None:
            return None
        return timedelta(seconds=max(0.0, self._ends - time.monotonic()))


_Call = tuple[Handler, Sequence[Claim], float]  # and when it began, monotonic

_call: ContextVar[_Call | None] = ContextVar("call", default=None)


def note(handler: Handler, claims: Sequence[Claim]) -> Token[_Call | None]:
    """Let `current` tell of `claims` in this context, until `forget`."""
    return _call.set((handler, claims, time.monotonic()))


def forget(noted: Token[_Call | None]) -> None:
    """The call is over."""
    _call.reset(noted)


def current(row: Any = None) -> Attempt:
    """Return the attempt that is under way: inside of a handler of any kind, what it
    calls and what it awaits included.

    Args:
        row: which one; in a batch it must be said, elsewhere it need not.

    Raises:
        NoAttempt: no handler is at work here, not with that row, or with a batch and
            no row was given.
    """
    call = _call.get()
    if call is None:
        raise NoAttempt("current() is for handlers: none is at work in this context")
    handler, claims, began = call
    if row is None and handler.batch is not None:
        raise NoAttempt("this handler has a batch: current(row) tells which row's")
    for claim in claims:
        if row is None or claim.row is row:
            limit = handler.time_limit
            ends = None if limit is None else began + limit.total_seconds()
            return _attempt(claim, ends)
    raise NoAttempt(f"this handler is not at work with {row!r}: give it its own row")


def _attempt(claim: Claim, ends: float | None) -> Attempt:
    flag, deadline = claim.flag, None
    if ends is not None:
        deadline = datetime.now(UTC) + timedelta(seconds=ends - time.monotonic())
    return Attempt(
        flag=flag,
        attempt=claim.attempt,
        crashes=claim.crashes,
        key=flag.key_of_mark(claim.row),
        marked_at=instant(getattr(claim.row, flag.at.name)),
        deadline=deadline,
        _ends=ends,
    )
