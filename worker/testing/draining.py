"""Steps 4 to 6 in the thread of the test: no server, no other thread, no wait.

The parts are those of a worker; only who calls them differs. A row is claimed when
its turn comes (or a batch), so what a test sees does not depend on the clock.
"""

from __future__ import annotations

import asyncio
import atexit
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from dramatiq.middleware import Interrupt
from peewee import ModelUpdate

from models import PendingFlag
from models.claiming import Claim, is_due
from models.connection import borrowed
from models.finding import flags as all_flags
from models.gating import claim_in_order
from models.loops import in_event_loop

from ..calling import Call, calls_of, run
from ..ending import End, record, time_limit_exceeded
from ..events import Event, log_claimed
from ..handlers import Handler, all_handlers, handler_named
from ..hooks import told
from ..leasing import leases
from .stage import is_there, name_of, staged, undo
from .steps import Killed, steps

_MOST_RUNS = 10  # of one row in one drain
_TELLING_SECONDS = 2  # for what `on_failed` and `on_parked` have registered

# Of a row; what else is raised (Ctrl-C, pytest.fail) is the test's own affair.
_FAILURES = (
    Exception,
    SystemExit,
    GeneratorExit,
    asyncio.CancelledError,
    Interrupt,
)


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt at one row.

    Attributes:
        flag: `<table>.<flag>`.
        key: the row's primary key; a tuple if it has several columns.
        attempt: 1 for the first one of this mark.
        event: how it ended.
        note: what the log says of it, the error included; often empty.
    """

    flag: str
    key: Any
    attempt: int
    event: Event
    note: str

    def __str__(self) -> str:
        words = f"{self.flag} key={self.key} attempt={self.attempt} {self.event}"
        return f"{words}: {self.note}" if self.note else words


class Drained(Counter[str]):
    """How many attempts ended in which way: `{"finished": 2, "parked": 1}`.

    Attributes:
        runs: the attempts, in their order.
        unhandled: flags, `<table>.<flag>`, that have work due but no handler here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[Run] = []
        self.unhandled: list[str] = []

    def add(self, run: Run) -> None:
        """Count one more attempt."""
        self.runs.append(run)
        self[run.event.value] += 1

    def explained(self) -> list[str]:
        """Return what happened, a line each, for a test that expected otherwise."""
        lines = [str(run) for run in self.runs] or ["nothing was due"]
        if self.unhandled:
            names = ", ".join(self.unhandled)
            lines.append(
                f"due, but the module with its handler is not imported: {names}"
            )
        return lines


def drain(*flags: PendingFlag) -> Drained:
    """Handle every row that is due, and what becomes due by that, in this thread.

    In an open transaction it stays inside of it, and leaves it as usable as it was.
    An attempt that fails is no error here: it is counted, and the row waits as ever.
    One call runs at a time, rows that are alike in their order; rates do not count.

    Args:
        flags: those to drain; default: all that have a handler and a table.

    Returns:
        How many attempts ended in which way; empty if nothing was due.

    Raises:
        TypeError: one of `flags` is none.
        LookupError: one of `flags` has no handler that is imported.
        AssertionError: a row is due again however often it is handled.
        RuntimeError: a handler is async, and so is the test.
    """
    drained, handlers = Drained(), _handlers(flags)
    with ExitStack() as stack:
        for database in dict.fromkeys(one.flag.database for one in handlers):
            stack.enter_context(borrowed(database))
            stack.enter_context(staged(database))
        while not _is_through(handlers, drained):
            _take_over(handlers)
    if not flags:
        drained.unhandled = _unhandled()
    told(seconds=_TELLING_SECONDS)
    return drained


def _handlers(flags: Sequence[PendingFlag]) -> list[Handler]:
    if not flags:
        return [one for one in all_handlers() if is_there(one.flag)]
    for flag in flags:
        if not isinstance(flag, PendingFlag):
            raise TypeError(
                f"drain() takes flags, as Order.needs_receipt, not {flag!r}"
            )
    found = {flag.label: handler_named(flag.label) for flag in flags}
    missing = [label for label, handler in found.items() if handler is None]
    if missing:
        names = ", ".join(missing)
        raise LookupError(f"{names}: no handler here; import the module that has it")
    return [handler for handler in found.values() if handler]


def _unhandled() -> list[str]:
    """Return the names of the flags that have work due, and no handler."""
    free = [flag for flag in all_flags() if not handler_named(flag.label)]
    return [name_of(flag) for flag in free if is_there(flag) and _is_due(flag)]


def _is_due(flag: PendingFlag) -> bool:
    with borrowed(flag.database):
        return is_due(flag)


def _is_through(handlers: Iterable[Handler], drained: Drained) -> bool:
    """Handle until nothing is due; False if the worker died before."""
    workers = [_Worker(handler, drained) for handler in handlers]
    try:
        while any(worker.work() for worker in workers):
            pass  # what one handler has marked may be another one's
    except Killed:
        return False
    return True


def _take_over(handlers: Iterable[Handler]) -> None:
    """The lease of the worker that died is over; the next one is alive."""
    steps.is_dead = False
    for handler in handlers:
        flag = handler.flag
        undo(flag.database)
        over = ModelUpdate(flag.model, {flag.until: 0})
        over.where(flag.lease.is_null(False)).execute()


class _Worker:
    """Handles the due rows of one flag, one call after the other."""

    def __init__(self, handler: Handler, drained: Drained) -> None:
        self.handler = replace(handler, function=self._called)
        self._function = _blocking(handler)
        self._is_async = handler.is_async
        self._drained = drained
        self._runs = Counter[Any]()
        self._interrupt: BaseException | None = None

    def work(self) -> bool:
        """Handle what is due; say whether anything was."""
        was_due = False
        while claims := self._claims():
            was_due = True
            log_claimed(claims)
            for call in calls_of(self.handler, claims):
                self._attempt(call)
        return was_due

    def _claims(self) -> list[Claim]:
        """Claim a call's rows; those whose last claim had no end come last, alone."""
        flag = self.handler.flag
        if self._is_async and in_event_loop() and is_due(flag):
            raise RuntimeError(
                f"the handler of {flag.label} is async, and so is the test that drains:"
                " make the test a plain function"
            )
        keys = self.handler.serialize_by
        some = partial(claim_in_order, flag, keys, lease=leases.lease)
        fresh = partial(some, limit=self.handler.batch or 1, suspects=False)
        dialect = flag.dialect
        return dialect.at_read_committed(flag.database, fresh) or (
            dialect.at_read_committed(flag.database, partial(some, limit=1))
        )

    def _attempt(self, call: Call) -> None:
        ends = run(self.handler, call)
        steps.check()
        if self._interrupt:
            raise self._interrupt
        for one, end in zip(call, ends, strict=True):
            self._record(one, end)
            steps.reached("after the finish")

    def _record(self, one: Claim, end: End) -> None:
        event = record(self.handler, one, end)
        key = one.key[0] if len(one.key) == 1 else one.key
        note = " ".join(end.note.split())
        self._drained.add(Run(name_of(one.flag), key, one.attempt, event, note))
        self._runs[one.key] += 1
        if self._runs[one.key] >= _MOST_RUNS:
            raise AssertionError(
                f"due again after each of {_MOST_RUNS} runs: does its handler mark it,"
                f" or a trigger? {one}"
            )

    def _called(self, rows: Any) -> Any:
        """What is called in the place of the handler's function."""
        steps.reached("after the claim, before the handler")
        try:
            with steps.handling():
                result = self._function(rows)
        except BaseException as error:
            if not isinstance(error, (*_FAILURES, Killed)):
                self._interrupt = error
            raise
        steps.reached("after the handler, before the finish")
        return result


def _blocking(handler: Handler) -> Callable[[Any], Any]:
    if not handler.is_async:
        return handler.function
    return lambda rows: _loop().run(
        _within_limit(handler, rows), context=copy_context()
    )


async def _within_limit(handler: Handler, rows: Any) -> Any:
    limit = handler.time_limit
    watch = asyncio.timeout(limit.total_seconds() if limit else None)
    try:
        async with watch:
            return await handler.function(rows)
    except TimeoutError as error:
        if watch.expired():
            raise time_limit_exceeded(error) from None
        raise


@cache
def _loop() -> asyncio.Runner:
    """Return the loop of all async handlers: it lives as long as the process, so a
    client that was made in one drain is of use in the next."""
    runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
    atexit.register(runner.close)
    return runner
