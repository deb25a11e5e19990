"""Step 4, claim, as a worker does it: which rows next, and how many.

A row whose last claim had no end is a suspect: it may have killed its process. Only
one of them runs in a process at a time, alone in its claim, lest the innocent be
parked with the guilty; and others have a turn in between, so that each process does
some work before it dies.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from models import PendingFlag
from models.claiming import Claim, claim, new_token, take_back
from models.gating import Wish

from .calling import calls_of
from .ending import GONE
from .handlers import Handler
from .hands import stopping
from .leasing import leases
from .pausing import is_paused
from .permitting import permits

logger = logging.getLogger("pending")

_TAKING_BACK_SECONDS = 10
_MOST_RUNS = 10  # of one row; then the others have their turn

_suspect_runs = threading.Lock()


@contextmanager
def taken(handler: Handler, rows: int, *, calls: int = 1) -> Iterator[Sequence[Claim]]:
    """Claim rows for the block, which ends the claims; none if none is due, or none
    may be handled now.

    Args:
        rows: the most rows of a call; 1 or more.
        calls: the most calls; 1 or more.

    Raises:
        peewee.PeeweeException: the database failed. What can be had back was given
            back.
    """
    pace, token = handler.pace, new_token()
    try:
        if not pace.suspects_are_next():
            claims = _claim(handler, rows, calls, token, suspects=False)
            if claims or stopping.is_set():
                yield claims
                return
        is_alone = _suspect_runs.acquire(blocking=False)
        try:
            most = (1, 1) if is_alone else (rows, calls)
            claims = _claim(handler, *most, token, suspects=is_alone)
            if any(claim.crashes for claim in claims):
                pace.found_suspect()
            elif is_alone:
                _suspect_runs.release()
                is_alone = False
            yield claims
        finally:
            if is_alone:
                _suspect_runs.release()
    except GONE:
        _take_back(handler.flag, token)
        raise


def _claim(
    handler: Handler, rows: int, calls: int, token: int, *, suspects: bool
) -> Sequence[Claim]:
    def count(claims: Sequence[Claim]) -> int:
        return len(calls_of(handler, claims))

    flag, limits = handler.flag, handler.limits
    if stopping.is_set() or is_paused(flag):
        return ()
    with handler.pace.claiming() as may_claim:
        if not may_claim:
            handler.crew.notes()
            return ()
        if limits is not None:
            wish = Wish(calls, rows, count, leases.lease, suspects, token)
            return permits.claim(flag, limits, wish)
        some = partial(
            claim,
            flag,
            limit=calls * rows,
            lease=leases.lease,
            suspects=suspects,
            token=token,
        )
        return flag.dialect.at_read_committed(flag.database, some)


def _take_back(flag: PendingFlag, token: int) -> None:
    """Rows may have been claimed, and only the answer lost: the next worker would take
    that for a crash."""
    over = time.monotonic() + _TAKING_BACK_SECONDS
    while time.monotonic() < over:
        flag.database.close()
        try:
            take_back(flag, token)
            permits.end(token)
        except GONE:
            stopping.wait(0.5)
        else:
            return


class Repeats:
    """Notices a row that is pending again after each of many runs."""

    def __init__(self) -> None:
        self._runs = Counter[Any]()

    def too_many(self, claims: Sequence[Claim]) -> bool:
        """Count the rows of `claims`; warn and return True if one has had its share."""
        self._runs.update([claim.key for claim in claims])
        worst = [one for one in claims if self._runs[one.key] >= _MOST_RUNS]
        for one in worst:
            logger.warning(
                "pending again after each of %d runs: does a trigger mark it,"
                " or its handler? %s",
                _MOST_RUNS,
                one,
            )
        return bool(worst)
