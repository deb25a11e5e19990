"""Step 4, claim: take due rows so that one worker at a time handles each.

A claim is a lease with a random token. Only whoever holds the token ends the
claim, and it must renew the lease for as long as it works. Rows that another
transaction has locked are passed over.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import peewee
from peewee import ModelUpdate

from . import transitions
from .dialects import has_key, keys_of
from .flags import PendingFlag, PendingModel


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """The right to handle `row`, for as long as its lease is renewed.

    Attributes:
        row: as it was when it was claimed; the handler's, to change.
        key: the row's primary key then, as a tuple.
        token: what the database knows this claim by.
        attempt: 1 for the first claim of this mark.
    """

    flag: PendingFlag
    row: PendingModel
    key: tuple[Any, ...]
    token: int
    attempt: int

    @property
    def held(self) -> Any:
        """The condition that the row is still this claim's."""
        return has_key(self.flag.model, self.key) & (self.flag.lease == self.token)

    def __str__(self) -> str:
        key = self.key[0] if len(self.key) == 1 else self.key
        return f"flag={self.flag.label} key={key}"


def is_due(flag: PendingFlag) -> bool:
    """Say whether any row of `flag` may be claimed now. One probe of the index."""
    probe = flag.model.select(peewee.SQL("1")).where(_due(flag)).limit(1)
    return bool(probe.tuples().execute())


def claim(flag: PendingFlag, *, limit: int, lease: timedelta) -> list[Claim]:
    """Lease the longest-due rows of `flag` and count an attempt for each.

    Args:
        limit: the most rows to take; 1 or more.
        lease: the time until others may take them, unless renewed; above zero.

    Returns:
        0 to `limit` claims, in no order.

    Raises:
        ValueError: an argument is out of range.
        peewee.OperationalError: connection lost; rows may stay leased for `lease`.
    """
    if limit < 1 or lease <= timedelta(0):
        raise ValueError(f"out of range: {limit=}, {lease=}")
    token = secrets.randbits(62) + 1
    update = ModelUpdate(flag.model, transitions.claim(flag, token=token, lease=lease))
    rows = flag.dialect.picked(update, _due(flag), flag.due, limit)
    return [_claim(flag, row, token) for row in rows]


def renew(flag: PendingFlag, claims: Sequence[Claim], *, lease: timedelta) -> int:
    """Hold the rows of `claims`, all of `flag`, for another `lease` from now.

    Returns:
        How many are still held; the others were lost.
    """
    tokens = {claim.token for claim in claims}
    mine = has_key(flag.model, *(claim.key for claim in claims))
    update = ModelUpdate(flag.model, transitions.renew(flag, lease=lease))
    return int(update.where(mine, flag.lease.in_(list(tokens))).execute())


def _due(flag: PendingFlag) -> Any:
    now = flag.dialect.now
    return flag.dialect.is_set(flag) & (flag.due <= now) & (flag.until <= now)


def _claim(flag: PendingFlag, row: PendingModel, token: int) -> Claim:
    key = tuple(row.__data__[field.name] for field in keys_of(flag.model))
    return Claim(flag, row, key, token, getattr(row, flag.attempts.name))
