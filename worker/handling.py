"""Step 5, handle: claim due rows, call their handler, end each claim.

Kicks and sweeps all end here. They carry a flag, never a row: the table is the
queue, and a message is only the bell that says "look again".
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import peewee

from models import PendingFlag
from models.claiming import Claim, claim, is_due
from models.connection import connected
from models.finishing import finish, park, postpone, release

from .events import Event, log
from .failures import clean, describe
from .handlers import GiveUp, Handler, RetryLater
from .leasing import leases

#: Set when the process is to end: no new row is claimed.
stopping = threading.Event()

_TURN_SECONDS = 5  # then the flag goes to the end of the queue, for the others' sake


def drain(handler: Handler, *, ring: Callable[[PendingFlag], bool]) -> Counter[Event]:
    """Handle the due rows of the handler's flag, one at a time, until none is due.

    It rings for others to join when there is more than one row; and after a few
    seconds it rings and ends, so that the flags take turns. If nobody can be rung
    for, it goes on itself.

    Args:
        ring: hangs a bell for a flag; says whether it hangs.

    Returns:
        How many claims ended in which way.

    Raises:
        peewee.PeeweeException: the database failed. A row may stay leased.
    """
    flag, ended = handler.flag, Counter[Event]()
    turn = time.monotonic() + _TURN_SECONDS
    with connected(flag.database):
        while not stopping.is_set():
            claims = claim(flag, limit=1, lease=leases.lease)
            if not claims:
                break
            if not ended and is_due(flag):
                ring(flag)
            ended.update(_handle(handler, one) for one in claims)
            if time.monotonic() > turn and ring(flag):
                break
    return ended


def _handle(handler: Handler, claim: Claim) -> Event:
    log(Event.CLAIMED, claim)
    with leases.kept(claim):
        event, note, end = _outcome(handler, claim)
        if not _recorded(claim, end):
            event = Event.LOST
    log(event, claim, note)
    return event


def _outcome(handler: Handler, claim: Claim) -> tuple[Event, str, Callable[[], bool]]:
    """Call the handler; return what happened, a note, and what records it."""
    started = time.monotonic()
    try:
        handler.function(claim.row)
    except RetryLater as signal:
        reason, wait = clean(str(signal)), signal.wait
        return Event.POSTPONED, reason, lambda: postpone(claim, wait=wait, error=reason)
    except GiveUp as signal:
        reason = clean(str(signal))
        return Event.PARKED, reason, lambda: park(claim, error=reason)
    except BaseException as error:  # noqa: BLE001 (it is this row's alone)
        return _failure(handler, claim, describe(error))
    took = f"ms={(time.monotonic() - started) * 1000:.0f}"
    return Event.FINISHED, took, lambda: finish(claim)


def _failure(
    handler: Handler, claim: Claim, error: str
) -> tuple[Event, str, Callable[[], bool]]:
    if claim.attempt >= handler.attempts:
        return Event.PARKED, error, lambda: park(claim, error=error)
    wait = handler.back_off(claim.attempt)
    note = f"due in {wait.total_seconds():.0f} s: {error}"
    return Event.RELEASED, note, lambda: release(claim, wait=wait, error=error)


def _recorded(claim: Claim, end: Callable[[], bool]) -> bool:
    """End the claim; on a fresh connection if the handler's was lost meanwhile."""
    try:
        return end()
    except (peewee.InterfaceError, peewee.OperationalError):
        claim.flag.database.close()
        return end()
