"""Questions to the database, each with a time limit that holds whatever happens.

A question runs in a thread of its own; if the database hangs the thread is left
behind, and the page says so. Of such threads there are few at any time. All questions
of a request share its time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import TypeVar

from starlette.types import ASGIApp, Receive, Scope, Send

from models import PendingFlag
from models.finding import flag_named

from ..overview import known_flags

T = TypeVar("T")

#: How long a page waits for the database in all; it is to come within 1 s.
PATIENCE_SECONDS = 0.9

_MOST = 16  # questions at once
_GIVEN_UP_SECONDS = 60  # a thread that is stuck for so long does not count any more


class Unavailable(Exception):
    """The database does not answer in time."""


_until: ContextVar[float] = ContextVar("until")

_asked: dict[threading.Thread, float] = {}
_lock = threading.Lock()


class Patience:
    """ASGI middleware: begins the time that a request may take."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        give_time()
        await self.app(scope, receive, send)


def give_time() -> None:
    """From now on the request may wait for `PATIENCE_SECONDS` in all."""
    _until.set(time.monotonic() + PATIENCE_SECONDS)


def left() -> float:
    """Return for how many seconds the request may still wait for the database."""
    return max(0.0, _until.get() - time.monotonic())


async def ask(question: Callable[[], T], *, seconds: float | None = None) -> T:
    """Return what `question()` returns; it is called in a thread.

    Args:
        seconds: default: what is left of the request's time.

    Raises:
        Unavailable: it took longer, or too many others still wait.
        Exception: what the question raised.
    """
    answer: Future[T] = Future()
    _start(question, answer)
    limit = left() if seconds is None else seconds
    try:
        return await asyncio.wait_for(asyncio.wrap_future(answer), limit)
    except TimeoutError:
        raise Unavailable("the database does not answer in time") from None


async def flag_called(label: str) -> PendingFlag:
    """Return the flag called `label`.

    Raises:
        NoSuchFlag: there is none.
        Unavailable: whether there is one is the database's to say.
    """
    return await ask(lambda: flag_named(label, known_flags()))


def _start(question: Callable[[], T], answer: Future[T]) -> None:
    def run() -> None:
        if answer.set_running_or_notify_cancel():
            try:
                answer.set_result(question())
            except BaseException as error:  # noqa: BLE001 (it is the asker's)
                answer.set_exception(error)
        with _lock:
            _asked.pop(threading.current_thread(), None)

    thread = threading.Thread(target=run, name="dashboard-question", daemon=True)
    with _lock:
        now = time.monotonic()
        waiting = sum(now - since < _GIVEN_UP_SECONDS for since in _asked.values())
        if waiting >= _MOST:
            raise Unavailable("the database has not answered earlier questions yet")
        _asked[thread] = now
    thread.start()
