"""Step 6, finish: the ends of a claim.

Each is one UPDATE that asks for the claim's token: whoever lost the lease changes
nothing. That is a result, False, not an exception.
"""

from __future__ import annotations

import functools
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

from peewee import ModelUpdate, Node

from . import transitions
from .claiming import Claim
from .committing import announce
from .dialects import Each, Values, key_names
from .flags import PendingFlag
from .transitions import Changes
from .writing import transitions_for

logger = logging.getLogger("pending")

_MOST_ROWS = 500  # in one statement: each adds parameters, which are 65,535 at most


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


def finish_all(claims: Sequence[Claim]) -> list[Claim]:
    """Finish many claims of one flag as `finish` does, in few statements.

    It never waits: a row that another transaction has locked is passed over. So is one
    whose handler assigned a flag or SQL, and whatever the database refuses.

    Returns:
        The claims that were finished; what is with the others `finish` tells.
    """
    finished = []
    for names, group in _alike(claims):
        try:
            with _savepoint(group[0].flag):
                finished += _end_each(transitions.finish, group, names)
        except Exception as error:  # noqa: BLE001 (of some row; `finish` tells which)
            logger.debug("not finished together: %s", error)
    for claim in finished:
        claim.row._dirty.clear()
    return finished


def can_be_many(claim: Claim) -> bool:
    """Say whether `finish_all` finishes the claim, unless its row is locked, lost or
    refused."""
    return _plainly_assigned(claim, key_names(claim.flag.model)) is not None


def give_back_all(claims: Sequence[Claim]) -> list[Claim]:
    """Give back many claims of one flag; as with `finish_all`, locked rows remain."""
    return _end_each(transitions.give_back, claims)


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
    row, keys = claim.row, key_names(claim.flag.model)
    fields = [field for field in row.dirty_fields if field.name not in keys]
    return {field: row.__data__[field.name] for field in fields}


def _end(claim: Claim, changes: dict[Any, Any]) -> bool:
    return bool(ModelUpdate(claim.flag.model, changes).where(claim.held).execute())


def _alike(claims: Sequence[Claim]) -> Iterator[tuple[tuple[str, ...], list[Claim]]]:
    """Yield the claims that fit into one statement, with the fields that it saves.

    Their values are of the same types, lest the database choose one for all.
    """
    groups = defaultdict(list)
    keys = key_names(claims[0].flag.model) if claims else ()
    for claim in claims:
        names = _plainly_assigned(claim, keys)
        if names is not None:
            types = tuple([type(claim.row.__data__[name]) for name in names])
            groups[names, types].append(claim)
    for (names, _), group in groups.items():
        yield names, group


def _savepoint(flag: PendingFlag) -> AbstractContextManager[object]:
    """Inside a transaction, what is refused must not spoil the rest of it."""
    database = flag.database
    return database.atomic() if database.in_transaction() else nullcontext()


def _plainly_assigned(claim: Claim, keys: Sequence[str]) -> tuple[str, ...] | None:
    """Return the names of the fields to save; None if some take a transition or SQL.

    Args:
        keys: the names of those that never are.
    """
    row, own = claim.row, claim.flag.name
    fields, data, names = row._meta.fields, row.__data__, []
    for name in sorted(row._dirty):
        if name in keys or (name == own and not data[own]):
            continue
        if isinstance(fields[name], PendingFlag) or isinstance(data[name], Node):
            return None
        names.append(name)
    return tuple(names)


def _end_each(
    end: Callable[[PendingFlag], Changes],
    claims: Sequence[Claim],
    names: tuple[str, ...] = (),
) -> list[Claim]:
    """Record one kind of end for claims of one flag; return those that it reached."""
    flag = claims[0].flag
    each, ended = _each(end, flag, flag.table, names), []
    for start in range(0, len(claims), _MOST_ROWS):
        some = claims[start : start + _MOST_ROWS]
        ended += [some[nth] for nth in each(_values(flag, some, names))]
    return ended


def _values(
    flag: PendingFlag, claims: Sequence[Claim], names: tuple[str, ...]
) -> Values:
    rows = [claim.row.__data__ for claim in claims]
    values: Values = {name: [row[name] for row in rows] for name in names}
    values[flag.lease.name] = [claim.token for claim in claims]
    keys = zip(*[claim.key for claim in claims], strict=True)
    values.update(zip(key_names(flag.model), keys, strict=True))
    return values


@functools.lru_cache(maxsize=1024)
def _each(
    end: Callable[[PendingFlag], Changes],
    flag: PendingFlag,
    table: object,
    names: tuple[str, ...],
) -> Each:
    fields = [flag.model._meta.fields[name] for name in names]
    return flag.dialect.each(flag.model, end(flag), fields, flag.lease)
