"""Step 5, handle: take due rows and attempt them, until none is due.

Kicks and sweeps all end here. They carry a flag, never a row: the table is the
queue, and a message is only the bell that says "look again".
"""

from __future__ import annotations

import time
from collections import Counter

from models import PendingFlag
from models.claiming import is_due
from models.connection import connected

from .attempting import attempt
from .ending import GONE
from .events import Event
from .flowing import flow_of
from .handlers import Handler
from .hands import Ring
from .taking import Repeats, taken

_TURN_SECONDS = 1  # then the flag goes to the end of the queue, for the others' sake


def drain(handler: Handler, *, ring: Ring) -> Counter[Event]:
    """Handle the due rows of the handler's flag until none is due.

    It rings for others to join when there are more rows than it takes at once; and
    after a second it rings and ends, so that the flags take turns. If nobody can be
    rung for, it goes on itself.

    Args:
        ring: hangs a bell for a flag; says whether it hangs.

    Returns:
        How many claims ended in which way.

    Raises:
        peewee.PeeweeException: the database failed. A row may stay leased.
    """
    if handler.is_async:
        return flow_of(handler).drain(ring)
    flag, ended, repeats = handler.flag, Counter[Event](), Repeats()
    over = time.monotonic() + _TURN_SECONDS
    with connected(flag.database):
        while True:
            size = handler.batch or handler.pace.rows
            with taken(handler, size) as claims:
                if not claims:
                    break
                if not ended and len(claims) >= size and _more_is_due(flag, size):
                    ring(flag)
                ended += attempt(handler, claims, ring)
            if repeats.too_many(claims) or (time.monotonic() > over and ring(flag)):
                break
    return ended


def _more_is_due(flag: PendingFlag, size: int) -> bool:
    """Whatever becomes of the question, what was claimed is to be handled."""
    if size > 1:
        return True  # a whole claim: at least it is likely
    try:
        return is_due(flag)
    except GONE:
        flag.database.close()
        return False
