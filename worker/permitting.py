"""Which calls a handler with limits may make: step 4, claim, through the gate.

The slots of calls that run at once are leases like those of rows: whoever renews a
row's lease renews the slot of its call, and what a killed process held is free again
when they are over.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from models import PendingFlag
from models.claiming import Claim
from models.connection import borrowed
from models.gating import (
    Limits,
    Passage,
    Wish,
    claim_within,
    release_slots,
    renew_slots,
)

from .failures import headline
from .resting import rests

logger = logging.getLogger("pending")

_AT_THE_GATE = (0.002, 0.005, 0.01)  # others are at it for about so long


@dataclass(slots=True)
class _Permit:
    flag: PendingFlag
    calls: int  # under way
    is_slot: bool


class Permits:
    """The calls that this process may make, by the tokens of their claims."""

    def __init__(self) -> None:
        self._permits: dict[int, _Permit] = {}
        self._lock = threading.Lock()

    def claim(self, flag: PendingFlag, limits: Limits, wish: Wish) -> Sequence[Claim]:
        """Claim rows as far as the limits allow; if they do not, perhaps the flag
        rests from now on.

        Raises:
            peewee.PeeweeException: the database failed.
        """
        if rests.hold(flag):
            return ()
        passage = _passage(flag, limits, wish)
        if passage.wait is not None:
            rests.begin(flag, seconds=passage.wait / timedelta(seconds=1))
        if passage.claims:
            permit = _Permit(flag, passage.calls, limits.calls is not None)
            with self._lock:
                self._permits[wish.token] = permit
        return passage.claims

    def calls(self, claims: Sequence[Claim]) -> int | None:
        """Return how many calls may be made for `claims`; None: as many as they are."""
        permit = self._permits.get(claims[0].token) if claims else None
        return None if permit is None else permit.calls

    def end(self, token: int, calls: int | None = None) -> None:
        """So many calls of `token` are over; None: all. Never raises."""
        with self._lock:
            permit = self._permits.get(token)
            if permit is None:
                return
            permit.calls -= permit.calls if calls is None else calls
            if permit.calls <= 0:
                del self._permits[token]
        if permit.is_slot:
            _release(permit.flag, token, max(0, permit.calls))

    def end_all(self) -> None:
        """The process ends, and its calls with it."""
        for token in list(self._permits):
            self.end(token)

    @contextmanager
    def ended(self, claims: Sequence[Claim]) -> Iterator[None]:
        """All calls for `claims` are over when the block is left."""
        try:
            yield
        finally:
            if self._permits and claims:
                self.end(claims[0].token)

    def renew(
        self, flag: PendingFlag, claims: Iterable[Claim], *, lease: timedelta
    ) -> None:
        """Hold the slots of the calls that `claims` of `flag` are in."""
        tokens = {claim.token for claim in claims}
        with self._lock:  # calls end meanwhile
            slots = {token for token, permit in self._permits.items() if permit.is_slot}
        if tokens & slots:
            renew_slots(flag, tokens & slots, lease=lease)


def _passage(flag: PendingFlag, limits: Limits, wish: Wish) -> Passage:
    def pass_through() -> Passage:
        return claim_within(flag, limits, wish)

    for pause in _AT_THE_GATE:
        passage = flag.dialect.at_read_committed(flag.database, pass_through)
        if not passage.is_busy:
            return passage
        time.sleep(pause)
    return passage


def _release(flag: PendingFlag, token: int, left: int) -> None:
    try:
        with borrowed(flag.database):
            release_slots(flag, token, left=left)
    except Exception as error:  # noqa: BLE001 (the slot's lease runs out)
        logger.debug("slot not released flag=%s: %s", flag.label, headline(error))


permits = Permits()
