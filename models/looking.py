"""Looks at a flag's index that are short, however many rows are pending.

Each reads at most `CAP` entries from an end of a stretch of the index, and says where
there may be more. Nothing here changes or locks anything.
"""

from __future__ import annotations

from typing import Any

from peewee import SQL, Case, Select, fn

from .dialects import keys_of
from .flags import PendingFlag
from .states import due_later, past_due

#: The most entries of an index that a look reads, and so the most that is counted.
CAP = 10_000

#: Due times and keys.
Found = list[tuple[int, tuple[Any, ...]]]


def entries(flag: PendingFlag, stretch: Any, order_by: Any = None) -> Any:
    """Return the first CAP + 1 rows of a stretch of the index, as a table `w`."""
    keys = [f.alias(f"key_{i}") for i, f in enumerate(keys_of(flag.model))]
    times = [getattr(flag, name).alias(name) for name in ("due", "until", "attempts")]
    rows = flag.model.select(*times, *keys).where(stretch)
    return rows.order_by(order_by or flag.due).limit(CAP + 1).alias("w")


def keys_in(flag: PendingFlag, window: Any) -> list[Any]:
    """Return the columns of `entries` that are the key."""
    return [getattr(window.c, f"key_{i}") for i in range(len(keys_of(flag.model)))]


def sums_of(flag: PendingFlag, stretch: Any, now: int) -> tuple[int, int, int, int]:
    """Return of at most CAP + 1 rows: how many, held, tried before, the first due."""
    window = entries(flag, stretch)
    held, tried = window.c.until > now, window.c.attempts > 0
    late = (window.c.until <= now) & (window.c.due > 0)
    columns = (
        fn.COUNT(SQL("1")),
        fn.SUM(Case(None, [(held, 1)], 0)),
        fn.SUM(Case(None, [(held, 0), (tried, 1)], 0)),
        fn.MIN(Case(None, [(late, window.c.due)], None)),
    )
    (sums,) = Select((window,), columns).bind(flag.database).tuples()
    all_of_them, held, tried, first = (int(one or 0) for one in sums)
    return all_of_them, held, tried, first


def held_rows(flag: PendingFlag, now: int) -> tuple[Found, bool]:
    """Return due times and keys of rows that are held, in their order; and whether
    there may be others.

    They are at the ends: claims begin with the longest due, but where many have the
    one due time PostgreSQL has those that were changed behind the others.
    """
    found: set[tuple[int, tuple[Any, ...]]] = set()
    more = False
    for stretch in (past_due(flag, now), due_later(flag, now)):
        found |= set(_held_first(flag, stretch, now, flag.due))
        if sums_of(flag, stretch, now)[0] > CAP:
            more = True
            found |= set(_held_first(flag, stretch, now, flag.due.desc()))
    return sorted(found), more


def _held_first(flag: PendingFlag, stretch: Any, now: int, order_by: Any) -> Found:
    window = entries(flag, stretch, order_by)
    query = Select((window,), (window.c.due, *keys_in(flag, window)))
    return found_by(flag, query.where(window.c.until > now).bind(flag.database))


def found_by(flag: PendingFlag, query: Any) -> Found:
    """Return what a query for due times and keys finds."""
    fields = keys_of(flag.model)
    return [
        (due, tuple(f.python_value(part) for f, part in zip(fields, key, strict=True)))
        for due, *key in query.tuples()
    ]
