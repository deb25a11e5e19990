"""Step 6, finish: the ends of a claim.

Each is one UPDATE that asks for the claim's token: whoever lost the lease changes
nothing. That is a result, False, not an exception.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from peewee import ModelUpdate

from . import transitions
from .claiming import Claim
from .committing import announce
from .dialects import keys_of
from .flags import PendingFlag
from .writing import transitions_for


def finish(claim: Claim) -> bool:
    """Clear the flag, and save what was assigned to the claim's row.

    A row that was marked again meanwhile stays pending. Flags that the handler
    assigned are marked or unmarked as by `save()`; the key is never changed.

    Returns:
        True, or False if the lease was lost: then nothing was saved.

    Raises:
        peewee.PeeweeException: the database refused; the row is still held.
    """
    flag, assigned = claim.flag, _assigned(claim)
    again = assigned.pop(flag, False)
    changes = transitions.finish(flag)
    if again:
        changes |= transitions.mark(flag) | {flag.attempts: 0}
    if not _end(claim, {**transitions_for(assigned), **changes}):
        return False
    claim.row._dirty.clear()
    marked = [
        f for f, value in assigned.items() if isinstance(f, PendingFlag) and value
    ]
    for other in [*marked, *([flag] if again else ())]:
        announce(other, flag.database)
    return True


def release(claim: Claim, *, wait: timedelta, error: str) -> bool:
    """The attempt failed: make the row due again after `wait`. False: lease lost."""
    return _end(claim, transitions.release(claim.flag, wait=wait, error=error))


def postpone(claim: Claim, *, wait: timedelta, error: str) -> bool:
    """As `release`, but the attempt does not count. False: lease lost."""
    return _end(claim, transitions.postpone(claim.flag, wait=wait, error=error))


def park(claim: Claim, *, error: str) -> bool:
    """Give up: the row waits until it is marked again. False: lease lost."""
    return _end(claim, transitions.park(claim.flag, error=error))


def give_back(claim: Claim) -> bool:
    """The row was not handled: leave it as it was before. False: lease lost."""
    return _end(claim, transitions.give_back(claim.flag))


def _assigned(claim: Claim) -> dict[Any, Any]:
    row, keys = claim.row, {field.name for field in keys_of(claim.flag.model)}
    fields = [field for field in row.dirty_fields if field.name not in keys]
    return {field: row.__data__[field.name] for field in fields}


def _end(claim: Claim, changes: dict[Any, Any]) -> bool:
    return bool(ModelUpdate(claim.flag.model, changes).where(claim.held).execute())
