"""How an attempt ends: what an exception makes of it, and how that is recorded.

An end is recorded on a connection that works, and only if the lease still holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import peewee
from dramatiq.middleware import TimeLimitExceeded

from models.claiming import Claim
from models.finishing import finish, park, postpone, release

from .events import Event, log
from .failures import clean, describe
from .handlers import Handler
from .leasing import leases
from .signals import GiveUp, RetryLater

_TRY_AGAIN_SECONDS = 0.5  # while the database is away

#: What a connection raises that is lost, among other things.
GONE = (peewee.InterfaceError, peewee.OperationalError)


@dataclass(frozen=True, slots=True)
class End:
    """What became of an attempt: a note for the log, and what records it.

    Attributes:
        seconds: how long the handler took; of a batch, the row's share.
        record: called with the claim, says whether the lease still held; None if the
            end is recorded already.
    """

    event: Event
    seconds: float
    record: Callable[[Claim], bool] | None
    note: str = ""


def end_of(
    handler: Handler, claim: Claim, error: BaseException | None, seconds: float
) -> End:
    """Return how the attempt ends whose handler raised `error`, or nothing."""
    if error is None:
        return End(Event.FINISHED, seconds, finish)
    if isinstance(error, RetryLater):
        return postponed(error.wait, clean(str(error)), seconds)
    if isinstance(error, GiveUp):
        return parked(clean(str(error)), seconds)
    text = describe(error)
    if isinstance(error, TimeLimitExceeded):
        text = f"the time limit of {handler.time_limit} is exceeded: {text}"
    if _is_the_databases(error, claim):
        return postponed(handler.wait, text, seconds)
    if claim.attempt >= handler.attempts:
        return parked(text, seconds)
    wait = handler.back_off(claim.attempt)
    note = f"due in {wait.total_seconds():.0f} s: {text}"
    record = partial(release, wait=wait, error=text)
    return End(Event.RELEASED, seconds, record, note)


def time_limit_exceeded(error: BaseException) -> TimeLimitExceeded:
    """Return what an async call has failed with that was cut short: from `error`, which
    is asyncio's own, but at the place where the call was."""
    cut = error.__cause__ or error
    return TimeLimitExceeded().with_traceback(cut.__traceback__)


def postponed(wait: timedelta, reason: str, seconds: float = 0) -> End:
    """Return the end of an attempt that does not count."""
    note = f"due in {wait.total_seconds():.0f} s: {reason}"
    record = partial(postpone, wait=wait, error=reason)
    return End(Event.POSTPONED, seconds, record, note)


def parked(reason: str, seconds: float = 0) -> End:
    """Return the end of all attempts."""
    return End(Event.PARKED, seconds, partial(park, error=reason), reason)


def record(handler: Handler, claim: Claim, end: End) -> Event:
    """Record `end`, and write its line. What the database refuses to save has failed.

    Returns:
        The end's event; LOST if the row is somebody else's by now.

    Raises:
        peewee.PeeweeException: the database stayed away for as long as the lease
            lasts, so nothing was recorded.
    """
    try:
        kept = end.record is None or _insistently(claim, end.record)
    except Exception as error:
        if end.event is not Event.FINISHED or isinstance(error, GONE):
            raise
        return record(handler, claim, end_of(handler, claim, error, end.seconds))
    leases.let_go(claim)
    event = end.event if kept else Event.LOST
    log(event, claim, end.seconds, end.note)
    return event


def _insistently(claim: Claim, record: Callable[[Claim], bool]) -> bool:
    """Record an end; again and again on fresh connections, while the lease lasts."""
    deadline = time.monotonic() + leases.lease.total_seconds()
    dialect, database = claim.flag.dialect, claim.flag.database
    dialect.rolled_back(database)
    while True:
        try:
            return dialect.at_read_committed(database, partial(record, claim))
        except GONE:
            database.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(_TRY_AGAIN_SECONDS)


def _is_the_databases(error: BaseException, claim: Claim) -> bool:
    """A lost connection or a deadlock is no failure of the row."""
    if not isinstance(error, GONE):
        return False
    flag = claim.flag
    return flag.dialect.is_conflict(error) or flag.dialect.has_lost(flag.database)
