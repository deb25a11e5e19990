"""Step 5, handle: take due rows and attempt them, until none is due.

Kicks and sweeps all end here. They carry a flag, never a row: the table is the
queue, and a message is only the bell that says "look again".
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from models import PendingFlag
from models.claiming import is_due
from models.connection import connected

from .attempting import attempt
from .ending import GONE
from .events import Event
from .flowing import flow_of
from .handlers import Handler
from .hands import Ring
from .permitting import permits
from .taking import Repeats, taken

_TURN_SECONDS = 1  # then the flag goes to the end of the queue, for the others' sake


def drain(
    handler: Handler,
    *,
    ring: Ring,
    later: Callable[[PendingFlag], object] | None = None,
) -> Counter[Event]:
    """Handle the due rows of the handler's flag until none is due, or enough threads
    of the process are at it.

    It rings for others to join when there are more rows than it takes at once; and
    after a second it ends, so that the flags take turns.

    Args:
        ring: hangs a bell for a flag.
        later: sees to it that the flag is drained again, after what waits; without it
            there are no turns.

    Returns:
        How many claims ended in which way.

    Raises:
        peewee.PeeweeException: the database failed. A row may stay leased.
    """
    if handler.is_async:
        return flow_of(handler).drain(ring)
    ended = Counter[Event]()
    if not handler.is_short_of_threads():
        return ended
    try:
        with connected(handler.flag.database):
            takes_turns = _drain(handler, ring, ended, forever=later is None)
    finally:
        handler.crew.leaves(anyway=True)
    if takes_turns and later:
        later(handler.flag)
    return ended


def _drain(
    handler: Handler, ring: Ring, ended: Counter[Event], *, forever: bool
) -> bool:
    """Drain, as one of the crew, into `ended`; say whether it is others' turn."""
    flag, crew, repeats = handler.flag, handler.crew, Repeats()
    over = time.monotonic() + (float("inf") if forever else _TURN_SECONDS)
    while True:
        size = handler.rows_at_once
        crew.claims()
        with taken(handler, size) as claims, permits.ended(claims):
            if (
                claims
                and not ended
                and len(claims) >= size
                and _more_is_due(flag, size)
            ):
                ring(flag)
            if claims:
                ended += attempt(handler, claims, ring)
        if not claims and crew.leaves():
            return False
        if repeats.too_many(claims) or not handler.is_short_of_threads():
            return False
        if time.monotonic() > over:
            return True


def _more_is_due(flag: PendingFlag, size: int) -> bool:
    """Whatever becomes of the question, what was claimed is to be handled."""
    if size > 1:
        return True  # a whole claim: at least it is likely
    try:
        return is_due(flag)
    except GONE:
        flag.database.close()
        return False
