"""What operators do: a page that asks, a POST that does, a page that tells.

What is confirmed names the state that the rows were seen in. Who comes second finds
none of them in it, and changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from urllib.parse import parse_qsl

import peewee
from starlette.datastructures import ImmutableMultiDict
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from models import PendingFlag, steering
from models.connection import connected
from models.counting import numbers
from models.finding import filtered, key_from_text
from models.instants import instant
from models.limiting import limited
from models.operations import ALL, the_database
from models.operations import now as database_now
from models.pausing import Paused, pauses
from models.states import State
from models.steering import Progress, Selection, selected

from ..kicking import ring
from ..overview import known_flags
from ..pausing import pause, resume
from ..settings import settings
from .asking import ask, flag_called, give_time
from .deeds import Deed, TooMany, begin, deed_named
from .guarding import has_token, operator_of
from .rendering import gone_to, page, url_of
from .verbs import PARK, PAUSE, RESUME, VERBS, VERBS_OF, Verb

_BIGGEST_FORM = 1_000_000
_COUNT_SECONDS = 0.6
_WAIT_SECONDS = 0.7  # for what is done at once
_KEYS_SHOWN = 20
_LENGTHS = {
    "15min": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "4h": timedelta(hours=4),
    "1d": timedelta(days=1),
}

Form = ImmutableMultiDict[str, str]

_STEERING: dict[str, Callable[..., int]] = {
    "retry": steering.retry,
    "mark": steering.mark,
    "unmark": steering.unmark,
    "park": steering.park,
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants done.

    Attributes:
        flag: None: all flags, which can only be paused and resumed.
        keys: as typed; empty: all rows in `state` that meet `filters`.
        state: that the rows were seen in; None: of a pause.
    """

    verb: Verb
    flag: PendingFlag | None
    keys: tuple[str, ...]
    state: State | None
    filters: tuple[str, ...]

    @property
    def label(self) -> str:
        """The flag's label, or `ALL`."""
        return ALL if self.flag is None else self.flag.label

    @property
    def selection(self) -> Selection:
        """The rows.

        Raises:
            BadText: one is no key.
        """
        assert self.flag is not None
        assert self.state is not None
        keys = [key_from_text(self.flag, text) for text in self.keys]
        return Selection(self.flag, keys or None, (self.state,), self.filters)


async def confirm(request: Request) -> Response:
    """Ask whether it is meant, and say how many rows it concerns."""
    _must_change()
    wish = await _wish(request.query_params)
    number, paused = None, None
    if wish.verb in {PAUSE, RESUME}:
        paused = await ask(lambda: _pause_of(wish.label))
    else:
        number = await ask(lambda: _how_many(wish))
    return page(
        request,
        "confirm.html",
        wish=wish,
        number=number,
        paused=paused,
        keys=wish.keys[:_KEYS_SHOWN],
        more=max(0, len(wish.keys) - _KEYS_SHOWN),
        lengths=list(_LENGTHS),
        back=_back(request, wish),
    )


async def do(request: Request) -> Response:
    """Do it, once."""
    _must_change()
    form = await _form(request)
    if not has_token(request, form.get("token", "")):
        raise HTTPException(403, "This form is not from a page of yours; load it again")
    wish = await _wish(form)
    if wish.verb in {PAUSE, RESUME}:
        by = operator_of(request)
        said = await ask(partial(_hold, wish, form, by))
        return gone_to(request, _back(request, wish), saying=said)
    return await _steer(request, wish, form.get("reason", "").strip())


async def deed(request: Request) -> Response:
    """Tell how far a long one is."""
    found = deed_named(request.query_params.get("id", ""))
    if found:
        return page(request, "deed.html", deed=found, said_at_end=_said(found, 0))
    if "x-refresh" in request.headers:
        return Response(status_code=204)  # what was shown last stands
    return page(request, "deed.html", status_code=404, deed=None)


async def _steer(request: Request, wish: Wish, reason: str) -> Response:
    work = _work(wish, operator_of(request), reason)
    new = Deed(wish.verb.name, wish.verb.past, wish.label)
    try:
        begin(new, work)
    except TooMany as error:
        raise HTTPException(503, str(error)) from None
    for _ in range(int(_WAIT_SECONDS / 0.02)):
        if new.is_over:
            said = _said(new, len(set(wish.keys)))
            return gone_to(request, _back(request, wish), saying=said)
        await asyncio.sleep(0.02)
    return gone_to(request, url_of(request, "deed", id=new.id))


def _work(wish: Wish, by: str, reason: str) -> Callable[[Progress], object]:
    selection = wish.selection
    why = {"reason": reason} if wish.verb is PARK else {}

    def work(progress: Progress) -> None:
        with connected(selection.flag.database):
            _STEERING[wish.verb.name](selection, by=by, progress=progress, **why)

    return work


def _said(done: Deed, wanted: int) -> str:
    rows = f"{done.rows:,} row{'' if done.rows == 1 else 's'} {done.past}"
    if done.problem:
        return f"{rows}, then the database said: {done.problem}"
    if not done.rows:
        return f"{rows}: already done, or in another state by now"
    if wanted > done.rows:
        return f"{rows}; {wanted - done.rows:,} were in another state by now"
    return rows


def _hold(wish: Wish, form: Form, by: str) -> str:
    """Pause or resume; say what it came to."""
    what = "everything" if wish.flag is None else wish.label
    with connected(the_database()):
        before = _paused(wish.label)
        if wish.verb is RESUME:
            if not resume(wish.label, by=by):
                return f"{what} was resumed already"
            _ring(wish)
            return f"{what} resumed"
        if before:
            return f"{what} was paused already, by {before.by}"
        length = _LENGTHS.get(form.get("until", ""))
        until = instant(database_now()) + length if length else None
        reason = form.get("reason", "").strip()
        pause(wish.label, by=by, until=until, reason=reason)
    return f"{what} paused"


def _ring(wish: Wish) -> None:
    for flag in known_flags() if wish.flag is None else [wish.flag]:
        ring(flag)


def _pause_of(label: str) -> Paused | None:
    with connected(the_database()):
        return _paused(label)


def _paused(label: str) -> Paused | None:
    return next((one for one in pauses() if one.flag == label), None)


def _how_many(wish: Wish) -> str | None:
    """Return how many rows there are now; None: to count them takes too long."""
    selection = wish.selection
    flag, state = selection.flag, selection.states[0]
    with connected(flag.database):
        if selection.keys is None and not wish.filters:
            return str(numbers(flag).of(state))
        try:
            with limited(flag.database, seconds=_COUNT_SECONDS):
                return f"{selected(wish.verb.name, selection):,}"
        except (peewee.DatabaseError, peewee.InterfaceError):
            if not flag.database.is_connection_usable():
                raise
            return None


async def _wish(given: ImmutableMultiDict[str, str]) -> Wish:
    verb = VERBS.get(given.get("verb", ""))
    if verb is None:
        raise HTTPException(400, "Nothing can be done so")
    label = given.get("flag", "")
    if verb in {PAUSE, RESUME}:
        flag = None if label == ALL else await flag_called(label)
        return Wish(verb, flag, (), None, ())
    flag = await flag_called(label)
    state = _state(given.get("state", ""))
    keys, filters = tuple(given.getlist("key")), tuple(given.getlist("where"))
    if verb not in VERBS_OF[state]:
        raise HTTPException(400, f"No {state} row can be {verb.past}")
    if not keys and not given.get("all"):
        raise HTTPException(400, "No row is selected")
    filtered(flag, filters)
    return Wish(verb, flag, keys, state, () if keys else filters)


def _state(text: str) -> State:
    try:
        return State(text)
    except ValueError:
        raise HTTPException(400, "There is no such state") from None


def _back(request: Request, wish: Wish) -> str:
    """Return the page that shows what came of it."""
    if wish.flag is None:
        return url_of(request)
    if len(wish.keys) == 1:
        return url_of(request, "row", flag=wish.label, key=wish.keys[0])
    return url_of(
        request, "flag", flag=wish.label, state=wish.state, where=wish.filters
    )


async def _form(request: Request) -> Form:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BIGGEST_FORM:
            raise HTTPException(413, "That is too much at once")
    give_time()  # whoever sends it may be slow
    try:
        return ImmutableMultiDict(parse_qsl(body.decode(), keep_blank_values=True))
    except ValueError:
        raise HTTPException(400, "That is no form") from None


def _must_change() -> None:
    if settings.dashboard_read_only:
        raise HTTPException(403, "This dashboard is read-only")
