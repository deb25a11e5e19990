"""One attempt: call the handler, and end the claim as it deserves.

Whatever the handler does is its row's affair alone: it may raise anything, lose
the connection, run for ever or kill the process. The end is recorded on a
connection that works, and only if the lease still holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import peewee
from dramatiq.middleware import TimeLimitExceeded

from models.claiming import Claim
from models.finishing import finish, park, postpone, release

from .events import Event, log
from .failures import clean, describe
from .handlers import GiveUp, Handler, RetryLater
from .leasing import leases
from .tracing import traced

_TRY_AGAIN_SECONDS = 0.5  # while the database is away

_GONE = (peewee.InterfaceError, peewee.OperationalError)


class _LeaseLost(Exception):
    """The row is somebody else's, so what the handler wrote is rolled back."""


class _LeftOpen(Exception):
    """Nothing of what the handler wrote since is in the database."""


@dataclass(frozen=True, slots=True)
class _End:
    """What happened, a note for the log, and what records it."""

    event: Event
    note: str
    record: Callable[[], bool]


def attempt(handler: Handler, claim: Claim) -> Event:
    """Handle the row of `claim`, and record how it ended.

    Raises:
        peewee.PeeweeException: the database stayed away for as long as the lease
            lasts, so nothing was recorded.
    """
    log(Event.CLAIMED, claim, f"crashes={claim.crashes}" if claim.crashes else "")
    with leases.kept(claim):
        if claim.crashes >= handler.max_crashes:
            end = _park(claim, f"{claim.crashes} workers died of it")
        else:
            end = _run(handler, claim)
        event = end.event if _recorded(claim, end) else Event.LOST
    log(event, claim, end.note)
    return event


def _run(handler: Handler, claim: Claim) -> _End:
    started = time.monotonic()
    try:
        with leases.limited(claim, handler.time_limit), traced(claim):
            record = _call(handler, claim)
        if claim.flag.dialect.rolled_back(claim.flag.database):
            raise _LeftOpen("the handler left a transaction open; it was rolled back")
    except _LeaseLost:
        return _End(Event.LOST, "rolled back", lambda: True)
    except RetryLater as signal:
        return _postpone(claim, signal)
    except GiveUp as signal:
        return _park(claim, clean(str(signal)))
    except BaseException as error:  # noqa: BLE001 (it is this row's alone)
        return _failure(handler, claim, error)
    return _End(Event.FINISHED, f"ms={_ms_since(started):.0f}", record)


def _call(handler: Handler, claim: Claim) -> Callable[[], bool]:
    """Call the handler; return what is still to be done to finish."""
    if not handler.atomic:
        handler.function(claim.row)
        return lambda: finish(claim)
    with claim.flag.dialect.transaction(claim.flag.database):
        handler.function(claim.row)
        if not finish(claim):
            raise _LeaseLost
    return lambda: True


def _failure(handler: Handler, claim: Claim, error: BaseException) -> _End:
    text = describe(error)
    if isinstance(error, TimeLimitExceeded):
        text = f"the time limit of {handler.time_limit} is exceeded: {text}"
    if _is_the_databases(error, claim):
        return _postpone(claim, RetryLater(handler.wait, text))
    if claim.attempt >= handler.attempts:
        return _park(claim, text)
    wait = handler.back_off(claim.attempt)
    note = f"due in {wait.total_seconds():.0f} s: {text}"
    return _End(Event.RELEASED, note, lambda: release(claim, wait=wait, error=text))


def _is_the_databases(error: BaseException, claim: Claim) -> bool:
    """A lost connection or a deadlock is no failure of the row."""
    if not isinstance(error, _GONE):
        return False
    flag = claim.flag
    return flag.dialect.is_conflict(error) or flag.dialect.has_lost(flag.database)


def _postpone(claim: Claim, signal: RetryLater) -> _End:
    wait, reason = signal.wait, clean(str(signal))
    note = f"due in {wait.total_seconds():.0f} s: {reason}"
    return _End(Event.POSTPONED, note, lambda: postpone(claim, wait=wait, error=reason))


def _park(claim: Claim, reason: str) -> _End:
    return _End(Event.PARKED, reason, lambda: park(claim, error=reason))


def _recorded(claim: Claim, end: _End) -> bool:
    """Record the end; again and again on fresh connections, while the lease lasts."""
    deadline = time.monotonic() + leases.lease.total_seconds()
    dialect, database = claim.flag.dialect, claim.flag.database
    dialect.rolled_back(database)
    while True:
        try:
            return dialect.at_read_committed(database, end.record)
        except _GONE:
            database.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(_TRY_AGAIN_SECONDS)


def _ms_since(started: float) -> float:
    return (time.monotonic() - started) * 1000
