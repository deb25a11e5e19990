"""What an operator does to rows: retry, mark, unmark, park.

Each statement asks again for the state that its rows were selected by: of two
operators who click at once, one changes the row and the other one nothing. A row
that a worker holds is only ever marked or unmarked, never parked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import or_
from typing import Any

from peewee import Case, ModelUpdate

from .dialects import has_key, keys_of
from .finding import filtered, key_text, printable
from .flags import PendingFlag
from .states import State, condition, now_of
from .transitions import parked

logger = logging.getLogger("pending.operator")

_CHUNK = 500  # rows a statement, and so a transaction
_TICK_SECONDS = 0.002  # then the database's clock, of ms, has moved on

#: Hears how many more rows were changed.
Progress = Callable[[int], object]

Key = tuple[Any, ...]
States = tuple[State, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows of a flag.

    Attributes:
        keys: only these; None: all that meet the rest.
        states: only those in one of these; empty: in any that the verb is for.
        filters: as for `finding.filtered`.
    """

    flag: PendingFlag
    keys: Sequence[tuple[Any, ...]] | None = None
    states: Sequence[State] = ()
    filters: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Verb:
    """What is done, to rows in which states, by which changes."""

    past: str
    states: tuple[State, ...]
    changes: Callable[[PendingFlag], dict[Any, Any]]


_WAITING = (State.DUE, State.SCHEDULED, State.RETRYING)
_PENDING = (*_WAITING, State.RUNNING, State.PARKED)


def retry(rows: Selection, *, by: str, progress: Progress | None = None) -> int:
    """Have parked and retrying rows tried again, at once: a new mark of each.

    Args:
        by: who wants it; for the log.

    Returns:
        How many rows were changed.

    Raises:
        ValueError: a state that this verb is not for.
        BadText: a filter cannot be meant.
        peewee.PeeweeException: the database failed; what was changed stays so.
    """
    return _steer(_RETRY, rows, by, progress)


def mark(rows: Selection, *, by: str, progress: Progress | None = None) -> int:
    """Mark rows in any state; idle ones, too. Otherwise as `retry`."""
    return _steer(_MARK, rows, by, progress)


def unmark(rows: Selection, *, by: str, progress: Progress | None = None) -> int:
    """Take the marks of pending rows back. Otherwise as `retry`."""
    return _steer(_UNMARK, rows, by, progress)


def park(
    rows: Selection, *, by: str, reason: str = "", progress: Progress | None = None
) -> int:
    """Let rows that wait for their turn wait until they are marked again.

    Args:
        reason: replaces the row's error; without one a row that has an error
            keeps it. Otherwise as `retry`.
    """
    verb = _Verb("parked", _WAITING, lambda flag: _parking(flag, by, reason))
    return _steer(verb, rows, by, progress)


def states_for(verb: str) -> tuple[State, ...]:
    """Return the states of rows that `verb` ("retry", "mark", …) is for."""
    return _VERBS[verb].states


def selected(verb: str, rows: Selection) -> int:
    """Return how many rows `verb` ("retry", "mark", "unmark", "park") would change."""
    states = _states(_VERBS[verb], rows)
    each: Sequence[States] = [(state,) for state in states] if states else [()]
    return sum(_count(rows, [*_conditions(rows, one), *_among(rows)]) for one in each)


def _count(rows: Selection, where: list[Any]) -> int:
    query = rows.flag.model.select()
    return int((query.where(*where) if where else query).count())


def _marking(flag: PendingFlag) -> dict[Any, Any]:
    return {flag: True}


_RETRY = _Verb("retried", (State.PARKED, State.RETRYING), _marking)
_MARK = _Verb("marked", tuple(State), _marking)
_UNMARK = _Verb("unmarked", _PENDING, lambda flag: {flag: False})
_VERBS = {
    "retry": _RETRY,
    "mark": _MARK,
    "unmark": _UNMARK,
    "park": _Verb("parked", _WAITING, lambda flag: {}),
}


def _parking(flag: PendingFlag, by: str, reason: str) -> dict[Any, Any]:
    changes = parked(flag)
    kept = Case(None, [(flag.error.is_null(), f"parked by {by}")], flag.error)
    return {**changes, flag.error: reason or kept}


def _steer(verb: _Verb, rows: Selection, by: str, progress: Progress | None) -> int:
    flag, changed = rows.flag, 0
    try:
        for keys, states in _chunks(verb, rows):
            number = _changed(verb, rows, keys, states)
            changed += number
            if progress:
                progress(number)
    finally:
        logger.info(
            "%s flag=%s rows=%d by=%s which=%s",
            *(verb.past, flag.label, changed, printable(by), _described(rows)),
        )
    return changed


def _changed(verb: _Verb, rows: Selection, keys: list[Key], states: States) -> int:
    flag, changes = rows.flag, verb.changes(rows.flag)
    # A flag that is assigned becomes a whole transition, and is announced.
    kind: Any = (
        flag.model.update if flag in changes else partial(ModelUpdate, flag.model)
    )
    update = kind(changes).where(has_key(flag.model, *keys), *_conditions(rows, states))
    number: int = flag.dialect.at_read_committed(flag.database, update.execute)
    return number


def _chunks(verb: _Verb, rows: Selection) -> Iterator[tuple[list[Key], States]]:
    """Yield the keys of a few rows at a time, and the states that they may be in."""
    states = _states(verb, rows)
    if rows.keys is not None:
        keys = list(dict.fromkeys(rows.keys))
        for chunk in (keys[i : i + _CHUNK] for i in range(0, len(keys), _CHUNK)):
            yield chunk, states
    elif not states or State.IDLE in states:
        for page in _by_key(rows, states):
            yield page, states
    else:
        for state in states:
            for page in _while_in(rows, state):
                yield page, (state,)


def _while_in(rows: Selection, state: State) -> Iterator[list[Key]]:
    """Yield rows of `state` for as long as there are any: what is done to them takes
    them out of it."""
    flag, before = rows.flag, None
    # What is marked from now on is not taken: a row that is parked again at once
    # would be retried for ever.
    started = now_of(flag)
    time.sleep(_TICK_SECONDS)
    new = flag.at.between(started + 1, flag.dialect.now)
    query = flag.model.select(*keys_of(flag.model)).where(
        ~new, *_conditions(rows, (state,))
    )
    while keys := list(query.order_by(flag.due).limit(_CHUNK).tuples()):
        if keys == before:  # they are, and then they are not: somebody else's doing
            return
        before = keys
        yield keys


def _by_key(rows: Selection, states: States) -> Iterator[list[Key]]:
    own, where = keys_of(rows.flag.model), _conditions(rows, states)
    query = rows.flag.model.select(*own).order_by(*own).limit(_CHUNK)
    query = query.where(*where) if where else query
    keys = list(query.tuples())
    while keys:
        yield keys
        keys = list(query.where(_beyond(own, keys[-1])).tuples())


def _beyond(fields: Sequence[Any], key: tuple[Any, ...]) -> Any:
    """Return the condition that a row comes after `key`: written out, for MySQL finds
    no way into an index by a comparison of rows."""
    beyond, same = None, None
    for field, value in zip(fields, key, strict=True):
        here = field > value if same is None else same & (field > value)
        beyond = here if beyond is None else beyond | here
        same = field == value if same is None else same & (field == value)
    return beyond


def _states(verb: _Verb, rows: Selection) -> States:
    """Return the states that the rows may be in; none: in any."""
    wrong = [state for state in rows.states if state not in verb.states]
    if wrong:
        possible = ", ".join(verb.states)
        raise ValueError(f"no {wrong[0]} row can be {verb.past}, only: {possible}")
    if not rows.states:
        return () if verb.states == tuple(State) else verb.states
    return tuple(state for state in verb.states if state in rows.states)


def _conditions(rows: Selection, states: States) -> list[Any]:
    filters = filtered(rows.flag, rows.filters)
    if not states:
        return filters
    any_of_them = reduce(or_, (condition(rows.flag, state) for state in states))
    return [any_of_them, *filters]


def _among(rows: Selection) -> list[Any]:
    if rows.keys is None:
        return []
    return [has_key(rows.flag.model, *rows.keys)]


def _described(rows: Selection) -> str:
    if rows.keys is not None:
        few = " ".join(map(key_text, rows.keys[:3]))
        more = " …" if len(rows.keys) > 3 else ""  # noqa: PLR2004
        return f"keys({printable(few)}{more})"
    what = [*rows.states, *rows.filters]
    return f"all({printable(' '.join(what))})"
