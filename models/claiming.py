"""Step 4, claim: take due rows so that one worker at a time handles each.

A claim is a lease with a random token. Only whoever holds the token ends the
claim, and it must renew the lease for as long as it works. Rows that another
transaction has locked are passed over.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import peewee
from peewee import ModelUpdate

from . import transitions
from .dialects import Key, Picking, has_key, key_names, key_values
from .flags import PendingFlag
from .rows import PendingModel
from .shapes import Shape, blank


@dataclass(slots=True, eq=False)  # frozen, it would take four times as long to make
class Claim:
    """The right to handle `row`, for as long as its lease is renewed.

    Attributes:
        row: as it was when it was claimed; the handler's, to change.
        key: the row's primary key then, as a tuple.
        token: what the database knows this claim by.
        attempt: 1 for the first claim of this mark.
        crashes: claims of the row before this one, in a row, that had no end: above
            zero the row is a suspect.
    """

    flag: PendingFlag
    row: PendingModel
    key: tuple[Any, ...]
    token: int
    attempt: int
    crashes: int

    @property
    def held(self) -> Any:
        """The condition that the row is still this claim's."""
        return has_key(self.flag.model, self.key) & (self.flag.lease == self.token)

    @property
    def name(self) -> str:
        """The key as it is written in logs."""
        return str(self.key[0] if len(self.key) == 1 else self.key)

    def __str__(self) -> str:
        return f"flag={self.flag.label} key={self.name}"


def is_due(flag: PendingFlag) -> bool:
    """Say whether any row of `flag` may be claimed now. One probe of the index."""
    return _probe(flag, flag.table).run().fetchone() is not None


def claim(  # noqa: PLR0913 (options, by name)
    flag: PendingFlag,
    *,
    limit: int,
    lease: timedelta,
    suspects: bool = True,
    token: int | None = None,
    among: Sequence[Key] | None = None,
) -> list[Claim]:
    """Lease the longest-due rows of `flag` and count an attempt for each.

    Args:
        limit: the most rows to take; 1 or more.
        lease: the time until others may take them, unless renewed; above zero.
        suspects: take rows too whose last claim had no end: they may have killed
            their worker.
        token: from `new_token()`, for a caller that may have to `take_back` a claim
            whose answer was lost.
        among: take only rows with these keys, not empty; None: any.

    Returns:
        0 to `limit` claims, in no order.

    Raises:
        ValueError: an argument is out of range.
        peewee.OperationalError: connection lost; rows may stay leased for `lease`.
    """
    if limit < 1 or lease <= timedelta(0):
        raise ValueError(f"out of range: {limit=}, {lease=}")
    token = token or new_token()
    if among is None:
        picking = _claiming(flag, flag.table, lease, suspects)
    else:
        own = has_key(flag.model, *among)
        picking = _picking(flag, lease, takable(flag, suspects=suspects) & own)
    return _claims(flag, picking(token=token, limit=limit), token)


def is_deleted(claim: Claim) -> bool:
    """Say whether the row of `claim` is there no more."""
    row = claim.flag.model.select(peewee.SQL("1"))
    return not row.where(has_key(claim.flag.model, claim.key)).exists()


def new_token() -> int:
    """Return a random token, 1 to 2⁶²."""
    return secrets.randbits(62) + 1


def take_back(flag: PendingFlag, token: int) -> int:
    """Give back whatever `token` holds: a claim was made, but its answer was lost.

    Returns:
        How many rows that were.
    """
    update = ModelUpdate(flag.model, transitions.give_back(flag))
    due = flag.dialect.is_set(flag) & (flag.due <= flag.dialect.now)
    return int(update.where(due, flag.lease == token).execute())


def renew(
    flag: PendingFlag, claims: Sequence[Claim], *, lease: timedelta
) -> list[Claim]:
    """Hold the rows of `claims`, all of `flag`, for another `lease` from now.

    It never waits: a row that another transaction has locked is passed over.

    Returns:
        The claims that were renewed. The others were lost, or are locked.
    """
    tokens = list({claim.token for claim in claims})
    mine = has_key(flag.model, *(claim.key for claim in claims))
    mine &= flag.lease.in_(tokens)
    update = ModelUpdate(flag.model, transitions.renew(flag, lease=lease))
    rows = flag.dialect.picking(update, mine, flag.due, len(claims))()
    renewed = {(key_values(row), getattr(row, flag.lease.name)) for row in rows}
    return [claim for claim in claims if (claim.key, claim.token) in renewed]


def renew_waiting(claim: Claim, *, lease: timedelta) -> bool:
    """Hold the row of `claim` for another `lease`, once nobody has it locked.

    Returns:
        True, or False if the lease was lost.
    """
    flag = claim.flag
    update = ModelUpdate(flag.model, transitions.renew(flag, lease=lease))
    update = update.where(claim.held)
    with flag.dialect.transaction(flag.database):
        # The first one waits, with the time of before: its lease may be over by then.
        return bool(update.execute() and update.execute())


def takable(flag: PendingFlag, *, suspects: bool) -> Any:
    """Return the condition of rows that may be claimed now, suspects too or not."""
    return _due(flag) if suspects else _fresh(flag)


def _fresh(flag: PendingFlag) -> Any:
    """Due and held by nobody. Not `lease IS NULL`, which PostgreSQL takes to be rare as
    long as it has no statistics: it would read and sort all that is due."""
    due = flag.dialect.is_set(flag) & (flag.due <= flag.dialect.now)
    return due & (flag.until < 1)


def _due(flag: PendingFlag) -> Any:
    now = flag.dialect.now
    return flag.dialect.is_set(flag) & (flag.due <= now) & (flag.until <= now)


@functools.lru_cache(maxsize=1024)
def _probe(flag: PendingFlag, table: object) -> Shape:
    # Ordered, so that PostgreSQL walks the index: as long as it has no statistics it
    # takes half of the rows to be pending, and would read them all to find none.
    rows = flag.model.select(peewee.SQL("1")).where(_due(flag))
    return Shape(rows.order_by(flag.due).limit(1))


@functools.lru_cache(maxsize=1024)
def _claiming(
    flag: PendingFlag, table: object, lease: timedelta, suspects: bool
) -> Picking:
    return _picking(flag, lease, takable(flag, suspects=suspects))


def _picking(flag: PendingFlag, lease: timedelta, where: Any) -> Picking:
    changes = transitions.claim(flag, token=blank("token"), lease=lease)
    update = ModelUpdate(flag.model, changes)
    return flag.dialect.picking(update, where, flag.due, blank("limit"))


def _claims(flag: PendingFlag, rows: list[Any], token: int) -> list[Claim]:
    attempts, crashes = flag.attempts.name, flag.crashes.name
    names = key_names(flag.model)
    claims = []
    for row in rows:
        key = tuple([row.__data__[name] for name in names])
        own = row.__dict__
        claims.append(Claim(flag, row, key, token, own[attempts], own[crashes]))
    return claims
