"""Step 5, handle: call the handler, and see how each row ends.

Whatever the handler does is its rows' affair alone: it may raise anything, lose the
connection, run for ever or kill the process.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from typing import Any

from peewee import chunked

from models.claiming import Claim, is_deleted
from models.finishing import finish_all

from .ending import End, end_of, postponed
from .events import Event
from .handlers import Handler
from .informing import forget, note
from .leasing import leases
from .signals import GiveUp
from .tracing import traced

#: The claims for one call of a handler: one, or as many as a batch has.
Call = Sequence[Claim]

Errors = Sequence[BaseException | None]


class _LeftOpen(Exception):
    """Nothing of what the handler wrote since is in the database."""


class _LeaseLost(Exception):
    """Rows are somebody else's, so what the handler wrote is rolled back."""

    def __init__(self, claims: Sequence[Claim]) -> None:
        super().__init__("rolled back: a lease was lost")
        self.claims = claims


def calls_of(handler: Handler, claims: Sequence[Claim]) -> list[Call]:
    """Return the calls for `claims`: the longest due first, or in the keys' order if
    they share a transaction."""
    if handler.batch is not None:
        return _batches(handler, claims)
    if handler.atomic:
        return [(claim,) for claim in sorted(claims, key=lambda claim: claim.key)]
    due = handler.flag.due.name
    return [(c,) for c in sorted(claims, key=lambda claim: getattr(claim.row, due))]


def claims_of(calls: Iterable[Call]) -> list[Claim]:
    """Return the claims of `calls`, in their order."""
    return [claim for call in calls for claim in call]


def _batches(handler: Handler, claims: Sequence[Claim]) -> list[Call]:
    """Rows that failed come in ever smaller batches, at last alone: nobody is parked
    for another one's sake."""
    calls: list[Call] = []
    for attempt, alike in groupby(sorted(claims, key=_attempt), key=_attempt):
        calls += chunked(alike, handler.batch_size(attempt))
    return calls


def _attempt(claim: Claim) -> int:
    return claim.attempt


def run(handler: Handler, call: Call) -> list[End]:
    """Call the handler once; return how the claims of `call` end, in their order."""
    started = time.monotonic()
    try:
        spare_workers(handler, call)
        if handler.atomic:
            ends = _run_atomic(handler, call)
        else:
            ends = ends_of(handler, call, call_once(handler, call), started)
        if handler.flag.dialect.rolled_back(handler.flag.database):
            raise _LeftOpen("the handler left a transaction open; it was rolled back")
    except _LeaseLost as lost:
        is_lost = End(Event.LOST, time.monotonic() - started, None, str(lost))
        again = postponed(timedelta(0), str(lost))
        return [is_lost if claim in lost.claims else again for claim in call]
    except BaseException as error:  # noqa: BLE001 (it is these rows' alone)
        return ends_of(handler, call, [error] * len(call), started)
    return ends


def spare_workers(handler: Handler, call: Call) -> None:
    """Raise GiveUp if too many workers have died of the rows already."""
    if call[0].crashes >= handler.max_crashes:
        raise GiveUp(f"{call[0].crashes} workers died of it")


def call_once(handler: Handler, call: Call) -> Errors:
    """Call the handler within its time limit; return what became of each row."""
    noted = note(handler, call)
    try:
        with _around(handler, call):
            result = handler.function(rows_of(handler, call))
    finally:
        forget(noted)
    return errors_in(handler, call, result)


def _around(handler: Handler, call: Call) -> AbstractContextManager[object]:
    if handler.time_limit is None:
        return traced(call)
    both = ExitStack()
    both.enter_context(leases.limited(call, handler.time_limit, ends_itself=False))
    both.enter_context(traced(call))
    return both


def rows_of(handler: Handler, call: Call) -> Any:
    """Return what the handler is called with: a row, or a batch's list of rows."""
    return call[0].row if handler.batch is None else [claim.row for claim in call]


def errors_in(handler: Handler, call: Call, result: Any) -> Errors:
    """Return the error of each row, None for those that were handled.

    Raises:
        TypeError: the handler of a batch returned something that does not tell.
    """
    if inspect.isawaitable(result):
        raise TypeError("the handler returned something to be awaited: is it async?")
    if handler.batch is None or result is None:
        return [None] * len(call)
    if not isinstance(result, list) or len(result) != len(call):
        raise TypeError(
            "the handler of a batch returns None, or a list with an entry for each"
            f" row (an exception if it failed), not {result!r:.80}"
        )
    return [one if isinstance(one, BaseException) else None for one in result]


def ends_of(handler: Handler, call: Call, errors: Errors, started: float) -> list[End]:
    """Return how the claims of a call end that began at `started` (monotonic)."""
    seconds = (time.monotonic() - started) / len(call)
    finished = end_of(handler, call[0], None, seconds)
    return [
        finished if error is None else end_of(handler, claim, error, seconds)
        for claim, error in zip(call, errors, strict=True)
    ]


def _run_atomic(handler: Handler, call: Call) -> list[End]:
    """Call the handler in a transaction, in which the ends are recorded as well."""
    started = time.monotonic()
    with handler.flag.dialect.transaction(handler.flag.database):
        ends = ends_of(handler, call, call_once(handler, call), started)
        done = [c for c, e in zip(call, ends, strict=True) if e.event is Event.FINISHED]
        finished = set(finish_all(done)) if len(call) > 1 else set()
        lost = [
            claim
            for claim, end in zip(call, ends, strict=True)
            if claim not in finished and not (end.record and end.record(claim))
        ]
        # A row that is deleted has taken its work along, most likely by the handler.
        taken_away = [claim for claim in lost if not is_deleted(claim)]
        if taken_away:
            raise _LeaseLost(taken_away)
    return [
        replace(end, record=None, event=Event.LOST if claim in lost else end.event)
        for claim, end in zip(call, ends, strict=True)
    ]
