"""Async handlers: many calls at once, in the process's event loop.

One thread claims rows, hands them to the loop and records how they end, some at a
time. While calls are under way it stays and takes more rows, so that a slow call keeps
nobody waiting; a thread that hears a bell meanwhile only tells it so.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cache, partial
from queue import Empty, SimpleQueue

from dramatiq.asyncio import (
    EventLoopThread,
    get_event_loop_thread,
    set_event_loop_thread,
)

from models.claiming import Claim
from models.connection import connected
from models.finishing import give_back, give_back_all

from .calling import (
    Call,
    Errors,
    calls_of,
    claims_of,
    ends_of,
    errors_in,
    rows_of,
    spare_workers,
)
from .ending import time_limit_exceeded
from .events import Event, log_claimed
from .failures import headline
from .handlers import Handler
from .hands import Hand, Ring, stopping
from .informing import note
from .leasing import leases
from .permitting import permits
from .taking import Repeats, taken
from .tracing import traced

_TOGETHER_SECONDS = 0.005  # calls that end within this are recorded together
_LOOK_SECONDS = 0.1  # between claims while few calls have ended
_RING_SECONDS = 1
_REPEATS_SECONDS = 1

logger = logging.getLogger("pending")

#: A call that is over, what became of each row, and when it began.
Ended = tuple[Call, Errors, float]

_starting = threading.Lock()


class Flow:
    """The calls of one async handler that are under way in this process."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self._counts = Counter[Event]()
        self._running = 0
        self._ended: SimpleQueue[Ended | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._is_open = False
        self._is_told = False
        self._looked = self._rang = self._repeats_until = 0.0
        self._repeats = Repeats()
        self._suspect: tuple[Claim, ExitStack] | None = None
        self._batch = handler.batch or 1

    def drain(self, ring: Ring) -> Counter[Event]:
        """Handle due rows until none is due and no call is under way.

        If another thread is at it, that is told to look once more. Arguments and
        results are those of `handling.drain`.
        """
        with self._lock:
            self._is_told = True
            if self._is_open:
                self._ended.put(None)
                return Counter()
            self._is_open = True
        self._counts, self._repeats = Counter(), Repeats()
        try:
            with connected(self.handler.flag.database):
                while self._goes_on():
                    self._step(ring)
        except BaseException:
            self._is_open = False
            raise
        return self._counts

    def _goes_on(self) -> bool:
        """Close the flow if nothing is left, unless somebody has told it of more."""
        with self._lock:
            has_more = self._is_told and not stopping.is_set()
            self._is_open = bool(self._running or has_more)
            return self._is_open

    def _step(self, ring: Ring) -> None:
        """Take rows if there is room, and record what has ended.

        A database that fails ends the flow only if no call is under way: the ends of
        those that are have to be recorded.
        """
        for part in (self._take, self._record):
            try:
                part(ring)
            except Exception as error:
                if not self._running:
                    raise
                flag = self.handler.flag
                logger.warning("calls go on flag=%s: %s", flag.label, headline(error))
                flag.database.close()
                self._is_told = True

    def _take(self, ring: Ring) -> None:
        room, now = self.handler.at_once - self._running, time.monotonic()
        if stopping.is_set() or not self._is_told or not room:
            return
        enough = self._running == 0 or room > self.handler.at_once // 4
        if not enough and now < self._looked + _LOOK_SECONDS:
            return
        self._is_told, self._looked = False, now
        size = room * self._batch
        with ExitStack() as stack:
            taking = taken(self.handler, self._batch, calls=room)
            claims = stack.enter_context(taking)
            permitted = permits.calls(claims)
            self._start(claims, room if permitted is None else permitted)
            if any(claim.crashes for claim in claims):
                self._suspect = claims[0], stack.pop_all()  # until its call has ended
        if len(claims) >= size:
            self._is_told = True
            if now > self._rang + _RING_SECONDS:
                self._rang = now
                ring(self.handler.flag)
        self._notice_repeats(claims)

    def _start(self, claims: Sequence[Claim], room: int) -> None:
        """Start as many calls as there is room for; give back the rows of the others.

        There are others if rows come again in smaller batches.
        """
        calls = calls_of(self.handler, claims)
        whole = self.handler.batch or 1
        self._batch = min(self._batch * 8, whole) if len(calls) <= room else 1
        log_claimed(claims)
        leases.hold(*claims_of(calls[:room]))
        for call in calls[:room]:
            self._running += 1
            asyncio.run_coroutine_threadsafe(self._call(call), event_loop())
        rest = claims_of(calls[room:])
        given = set(give_back_all(rest)) if rest else set()
        for claim in rest:
            if claim not in given:
                leases.later(claim, partial(give_back, claim))

    def _notice_repeats(self, claims: Sequence[Claim]) -> None:
        if time.monotonic() > self._repeats_until:
            self._repeats = Repeats()
            self._repeats_until = time.monotonic() + _REPEATS_SECONDS
        self._repeats.too_many(claims)

    async def _call(self, call: Call) -> None:
        handler, started = self.handler, time.monotonic()
        limit = handler.time_limit
        watch = asyncio.timeout(limit.total_seconds() if limit else None)
        errors: Errors
        note(handler, call)  # this task's own context ends with it
        try:
            spare_workers(handler, call)
            with leases.limited(call, limit, ends_itself=True):
                async with watch:
                    with traced(call):
                        result = await handler.function(rows_of(handler, call))
            errors = errors_in(handler, call, result)
        except BaseException as error:  # noqa: BLE001 (it is these rows' alone)
            errors = [time_limit_exceeded(error) if watch.expired() else error]
            errors *= len(call)
        self._ended.put((call, errors, started))

    def _record(self, ring: Ring) -> None:
        """Wait until calls have ended, and record how."""
        if not self._running:
            return
        ended = list(self._next_ended())
        self._running -= len(ended)
        hand = Hand(self.handler, (), ring)
        with leases.kept(*claims_of(call for call, _, _ in ended)):
            for call, errors, started in ended:
                self._is_told = True  # its rows may have been marked again
                hand.end(call, ends_of(self.handler, call, errors, started))
                self._release_suspect(call)
            hand.close(waits=False)
        for token, calls in Counter(call[0].token for call, _, _ in ended).items():
            permits.end(token, calls)
        self._counts += hand.ended

    def _release_suspect(self, call: Call) -> None:
        if self._suspect and self._suspect[0] in call:
            self._suspect[1].close()
            self._suspect = None

    def _next_ended(self) -> Iterator[Ended]:
        """Yield what has ended within a moment; nothing if somebody has news."""
        try:
            ended = self._ended.get(timeout=_LOOK_SECONDS if self._is_told else None)
            time.sleep(_TOGETHER_SECONDS if self._running > 1 else 0)
            while True:
                if ended is not None:
                    yield ended
                ended = self._ended.get_nowait()
        except Empty:
            return


@cache
def flow_of(handler: Handler) -> Flow:
    """Return the process's flow of an async handler."""
    return Flow(handler)


def event_loop() -> asyncio.AbstractEventLoop:
    """Return the loop of dramatiq's event loop thread, which is started if need be."""
    with _starting:
        thread = get_event_loop_thread()
        if thread is None:
            thread = EventLoopThread(logging.getLogger("dramatiq.asyncio"))
            thread.daemon = True
            thread.start()
            set_event_loop_thread(thread)
    return thread.loop
