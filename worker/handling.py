"""Step 5, handle: claim due rows and attempt them, one after the other.

Kicks and sweeps all end here. They carry a flag, never a row: the table is the
queue, and a message is only the bell that says "look again".
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import peewee

from models import PendingFlag
from models.claiming import Claim, claim, is_due, new_token, take_back
from models.connection import connected

from .attempting import attempt
from .events import Event
from .handlers import Handler
from .leasing import leases
from .pausing import is_paused

logger = logging.getLogger("pending")

#: Set when the process is to end: no new row is claimed.
stopping = threading.Event()

_TURN_SECONDS = 1  # then the flag goes to the end of the queue, for the others' sake
_TAKING_BACK_SECONDS = 10
_MOST_RUNS = 10  # of one row in a drain; then the others have their turn

# A suspect may kill the process: only one of them runs in it at a time, lest the
# innocent be parked with the guilty.
_suspect_runs = threading.Lock()


def drain(handler: Handler, *, ring: Callable[[PendingFlag], bool]) -> Counter[Event]:
    """Handle the due rows of the handler's flag, one at a time, until none is due.

    It rings for others to join when there is more than one row; and after a
    second it rings and ends, so that the flags take turns. If nobody can be rung
    for, it goes on itself.

    Args:
        ring: hangs a bell for a flag; says whether it hangs.

    Returns:
        How many claims ended in which way.

    Raises:
        peewee.PeeweeException: the database failed. A row may stay leased.
    """
    flag, ended, runs = handler.flag, Counter[Event](), Counter[Any]()
    over = time.monotonic() + _TURN_SECONDS
    with connected(flag.database):
        for turn in itertools.count():
            with _next_claim(flag, turn) as found:
                if found is None:
                    break
                if turn == 0 and _more_is_due(flag):
                    ring(flag)
                ended[attempt(handler, found)] += 1
                runs[found.key] += 1
            if runs[found.key] == _MOST_RUNS:
                logger.warning(
                    "pending again after each of %d runs: does a trigger"
                    " mark it, or its handler? %s",
                    _MOST_RUNS,
                    found,
                )
                break
            if time.monotonic() > over and ring(flag):
                break
    return ended


def _more_is_due(flag: PendingFlag) -> bool:
    """Whatever becomes of the question, the row that was claimed is to be handled."""
    try:
        return is_due(flag)
    except (peewee.InterfaceError, peewee.OperationalError):
        flag.database.close()
        return False


@contextmanager
def _next_claim(flag: PendingFlag, turn: int) -> Iterator[Claim | None]:
    """Claim one row. Suspects come every other turn, if others are due as well, so
    that each process does some work before it dies."""
    fresh = _claim(flag, suspects=False) if turn % 2 == 0 else None
    if fresh or stopping.is_set():
        yield fresh
        return
    alone = _suspect_runs.acquire(blocking=False)
    try:
        found = _claim(flag, suspects=alone)
        if alone and not (found and found.crashes):
            _suspect_runs.release()
            alone = False
        yield found
    finally:
        if alone:
            _suspect_runs.release()


def _claim(flag: PendingFlag, *, suspects: bool) -> Claim | None:
    if stopping.is_set() or is_paused(flag):
        return None
    token, lease = new_token(), leases.lease
    one = partial(claim, flag, limit=1, lease=lease, suspects=suspects, token=token)
    try:
        claims = flag.dialect.at_read_committed(flag.database, one)
    except (peewee.InterfaceError, peewee.OperationalError):
        _take_back(flag, token)
        raise
    return claims[0] if claims else None


def _take_back(flag: PendingFlag, token: int) -> None:
    """The claim may have been made, and only its answer lost: the next worker would
    take that for a crash."""
    over = time.monotonic() + _TAKING_BACK_SECONDS
    while time.monotonic() < over:
        flag.database.close()
        try:
            take_back(flag, token)
        except (peewee.InterfaceError, peewee.OperationalError):
            stopping.wait(0.5)
        else:
            return
