"""How many rows of a flag are in which state, as short a look as any of `looking`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from . import looking
from .flags import PendingFlag
from .looking import held_rows, sums_of
from .states import State, due_later, never_due, now_of, past_due


@dataclass(frozen=True, slots=True)
class Amount:
    """How many; `more` says that there may be more than these `n`."""

    n: int
    more: bool = False

    def __str__(self) -> str:
        return f"{self.n:,}{'+' if self.more else ''}"


@dataclass(frozen=True, slots=True)
class Numbers:
    """How many rows of a flag are in which state, and how long the first one is due.

    Attributes:
        oldest: since when the longest-due row has been due, as an age; None: nothing
            is due, or all of it was marked by raw SQL, which notes no time.
    """

    due: Amount
    scheduled: Amount
    running: Amount
    retrying: Amount
    parked: Amount
    oldest: timedelta | None

    def of(self, state: State) -> Amount:
        """Return the amount of `state`, any but idle."""
        amount: Amount = getattr(self, state.value)
        return amount


def numbers(flag: PendingFlag) -> Numbers:
    """Count the rows of `flag` by state.

    Raises:
        peewee.PeeweeException: the database, or the table, cannot be read.
    """
    now = now_of(flag)
    past, held, _, first = sums_of(flag, past_due(flag, now), now)
    ahead, held_ahead, retrying, _ = sums_of(flag, due_later(flag, now), now)
    parked, *_ = sums_of(flag, never_due(flag), now)
    full, full_ahead = past > looking.CAP, ahead > looking.CAP
    running = len(held_rows(flag, now)[0]) if full or full_ahead else held + held_ahead
    return Numbers(
        due=_amount(past - held, full),
        scheduled=_amount(ahead - held_ahead - retrying, full_ahead),
        running=_amount(running, full or full_ahead),
        retrying=_amount(retrying, full_ahead),
        parked=_amount(parked, parked > looking.CAP),
        oldest=timedelta(milliseconds=now - first) if first else None,
    )


def _amount(n: int, more: bool) -> Amount:
    return Amount(min(n, looking.CAP), more)
