"""What each step writes into the row: the state machine, and nothing else.

Every function returns the SET list of one transition. Marks apply to a row in any
state; `renew` and the four ends apply `WHERE key AND lease = token`, never `AND
flag`: a row that was unmarked meanwhile still has to be let go. Attempts are
negative while a row is held that was marked again. docs/flow.md draws the states.

MySQL assigns from left to right and sees the new values: an expression reads only
its own column and those after it (`columns.companions`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from peewee import Case, fn

from .columns import NEVER

if TYPE_CHECKING:
    from .flags import PendingFlag

Changes = dict[Any, Any]


def mark(flag: PendingFlag, when: Any = None) -> Changes:
    """Something is to be done, from `when` on (ms; None is now)."""
    now = flag.dialect.now
    return {
        flag: True,
        flag.at: flag.dialect.greater(now, flag.at + 1),
        flag.due: now if when is None else when,
        flag.attempts: _if_held(flag, -1 * fn.ABS(flag.attempts)),
    }


def unmark(flag: PendingFlag) -> Changes:
    """Nothing is to be done; whoever holds the row keeps its lease."""
    return {
        flag: False,
        flag.at: 0,
        flag.due: 0,
        flag.attempts: _if_held(flag, fn.ABS(flag.attempts)),
        flag.error: None,
    }


def set_to(flag: PendingFlag, value: Any) -> Changes:
    """Mark or unmark row by row, as the SQL expression `value` says."""
    marked, unmarked = mark(flag), unmark(flag)
    changes: Changes = {flag: value}
    becomes = flag.dialect.assigned(flag, value)
    for field in (flag.at, flag.due, flag.attempts, flag.error):
        changes[field] = Case(
            None, [(becomes, marked.get(field, field))], unmarked[field]
        )
    return changes


def claim(flag: PendingFlag, *, token: Any, lease: timedelta) -> Changes:
    """Count the attempt, and hold the row. A lease found here is a crash."""
    now = flag.dialect.now
    crashed = Case(None, [(flag.lease.is_null(), flag.crashes)], flag.crashes + 1)
    return {
        flag.at: Case(None, [(flag.at == 0, now)], flag.at),
        flag.attempts: fn.ABS(flag.attempts) + 1,
        flag.crashes: crashed,
        flag.until: now + _ms(lease),
        flag.lease: token,
    }


def renew(flag: PendingFlag, *, lease: timedelta) -> Changes:
    """Hold the row for another `lease` from now."""
    return {flag.until: flag.dialect.now + _ms(lease)}


def finish(flag: PendingFlag) -> Changes:
    """The work is done; a mark made meanwhile stands, with its own due time."""
    again = flag.attempts < 0
    return {
        flag: flag & again,
        flag.at: Case(None, [(again, flag.at)], 0),
        flag.due: Case(None, [(again, flag.due)], 0),
        flag.attempts: 0,
        **_let_go(flag),
        flag.error: None,
    }


def release(flag: PendingFlag, *, wait: timedelta, error: str) -> Changes:
    """The attempt failed: due again after `wait`."""
    later = flag.dialect.now + _ms(wait)
    return _failed(flag, due=later, attempts=flag.attempts, error=error)


def postpone(flag: PendingFlag, *, wait: timedelta, error: str) -> Changes:
    """It was not the time: due again after `wait`, the attempt not counted."""
    later = flag.dialect.now + _ms(wait)
    return _failed(flag, due=later, attempts=flag.attempts - 1, error=error)


def park(flag: PendingFlag, *, error: str) -> Changes:
    """Give up until somebody marks the row again."""
    return _failed(flag, due=NEVER, attempts=flag.attempts, error=error)


def parked(flag: PendingFlag) -> Changes:
    """Nobody holds the row: let it wait until somebody marks it again. A token that
    was left behind by a crash goes, as if the row had been claimed and parked."""
    return {flag.due: NEVER, flag.attempts: fn.ABS(flag.attempts), **_let_go(flag)}


def give_back(flag: PendingFlag) -> Changes:
    """The attempt did not take place: due as before, the attempt not counted."""
    counted = flag & (flag.attempts > 0)
    return {
        flag.due: Case(None, [(flag, flag.due)], 0),
        flag.attempts: Case(None, [(counted, flag.attempts - 1)], 0),
        **_let_go(flag),
    }


def _failed(flag: PendingFlag, *, due: Any, attempts: Any, error: str) -> Changes:
    again, counted = flag.attempts < 0, flag & (flag.attempts > 0)
    return {
        flag.due: Case(None, [(again, flag.due), (flag, due)], 0),
        flag.attempts: Case(None, [(counted, attempts)], 0),
        **_let_go(flag),
        flag.error: Case(None, [(flag, error)], None),
    }


def _let_go(flag: PendingFlag) -> Changes:
    return {flag.crashes: 0, flag.until: 0, flag.lease: None}


def _if_held(flag: PendingFlag, attempts: Any) -> Case:
    return Case(None, [(flag.lease.is_null(), 0)], attempts)


def _ms(span: timedelta) -> int:
    return round(span / timedelta(milliseconds=1))
