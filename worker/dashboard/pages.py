"""Pages to read: all flags, one flag's rows by state, one row."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import peewee
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from models import PendingFlag
from models.connection import connected
from models.finding import filter_fields, filtered, key_from_text
from models.limiting import limited
from models.listing import Page, listed, shown
from models.states import State

from ..handlers import handler_named
from ..overview import Overview, Standing, overview
from ..wording import span
from .asking import ask, flag_called, left
from .charts import CANVAS, Chart, charts
from .history import history
from .rendering import gone_to, page, url_of
from .verbs import VERBS_OF

_LATE = timedelta(minutes=1)
_ROWS = 50
_SEARCH_SECONDS = 0.6
_DRAWING_SECONDS = 0.25  # what the rest of a page takes

#: In which order states are offered, and looked into where none is asked for.
_ORDER = (State.PARKED, State.RETRYING, State.DUE, State.RUNNING, State.SCHEDULED)


@dataclass(frozen=True, slots=True)
class Seen:
    """A flag as a page shows it.

    Attributes:
        troubles: what a person should look at, in words, each with the state whose
            rows tell more, or None.
    """

    standing: Standing
    charts: list[Chart]
    troubles: list[tuple[str, State | None]]


async def flags(request: Request) -> Response:
    """All flags: those that need somebody first."""
    found, seen = await ask(_look)
    seen.sort(key=lambda one: (not one.troubles, one.standing.label))
    return page(
        request, "flags.html", found=found, seen=seen, canvas=CANVAS, late=_LATE
    )


async def flag(request: Request) -> Response:
    """A flag: its numbers, and its rows in one state."""
    wanted = await flag_called(request.query_params.get("flag", ""))
    typed = _typed_filter(request)
    if typed:
        return _with_filter(request, typed)
    filters = request.query_params.getlist("where")
    filtered(wanted, filters)  # complains of what cannot be meant
    found, (one,) = await ask(lambda: _look([wanted]))
    state = _state_asked_for(request, one.standing)
    rows: Page | None = Page([], None, False)
    if one.standing.numbers:
        after = request.query_params.get("after")
        seconds = min(_SEARCH_SECONDS, max(left() - _DRAWING_SECONDS, 0.1))
        rows = await ask(lambda: _rows(wanted, state, filters, after, seconds))
    return page(
        request,
        "flag.html",
        found=found,
        one=one,
        state=state,
        rows=rows,
        filters=filters,
        fields=list(filter_fields(wanted)),
        verbs=VERBS_OF[state],
        canvas=CANVAS,
    )


async def row(request: Request) -> Response:
    """A row: its state, its times, its error, its own fields."""
    wanted = await flag_called(request.query_params.get("flag", ""))
    text = request.query_params.get("key", "")
    key = key_from_text(wanted, text)

    def look() -> object:
        with connected(wanted.database):
            return shown(wanted, key)

    found, (_, (one,)) = await asyncio.gather(ask(look), ask(lambda: _look([wanted])))
    if found is None:
        raise HTTPException(404, f"{wanted.label} has no row {text}")
    return page(
        request,
        "row.html",
        row=found,
        one=one,
        verbs=VERBS_OF[found.state],  # type: ignore[attr-defined]
        handler=handler_named(wanted.label),
    )


def _look(of: list[PendingFlag] | None = None) -> tuple[Overview, list[Seen]]:
    found = overview(of)
    labels = [one.label for one in found.flags]
    past = {} if found.missing else history(labels, now=found.at)
    seen = [
        Seen(
            one,
            charts(past[one.label], now=found.at) if past else [],
            list(_troubles(one)),
        )
        for one in found.flags
    ]
    return found, seen


def _troubles(one: Standing) -> list[tuple[str, State | None]]:
    if one.numbers is None:
        return [(f"cannot be read: {one.problem}", None)]
    found: list[tuple[str, State | None]] = []
    numbers = one.numbers
    if numbers.parked.n:
        found.append((f"{numbers.parked} parked", State.PARKED))
    if numbers.oldest and numbers.oldest > _LATE:
        found.append((f"due for {span(numbers.oldest)}", State.DUE))
    if numbers.due.n and not one.workers:
        found.append(("no worker", State.DUE))
    return found


def _state_asked_for(request: Request, one: Standing) -> State:
    asked = request.query_params.get("state", "")
    if asked in set(_ORDER):
        return State(asked)
    if one.numbers:
        for state in _ORDER:
            if one.numbers.of(state).n:
                return state
    return State.PARKED


def _rows(
    wanted: PendingFlag,
    state: State,
    filters: list[str],
    after: str | None,
    seconds: float,
) -> Page | None:
    """Return a page of rows; None: to search for them takes too long."""
    with connected(wanted.database):
        if not filters:
            return listed(wanted, state, after=after, limit=_ROWS)
        try:
            with limited(wanted.database, seconds=seconds):
                return listed(wanted, state, filters=filters, after=after, limit=_ROWS)
        except (peewee.DatabaseError, peewee.InterfaceError):
            if not wanted.database.is_connection_usable():
                raise
            return None


def _typed_filter(request: Request) -> str:
    typed = request.query_params
    if "field" not in typed:
        return ""
    return f"{typed['field']}{typed.get('sign', '~')}{typed.get('value', '')}"


def _with_filter(request: Request, typed: str) -> Response:
    query = request.query_params
    where = list(dict.fromkeys([*query.getlist("where"), typed]))
    url = url_of(
        request, "flag", flag=query["flag"], state=query.get("state"), where=where
    )
    return gone_to(request, url)
