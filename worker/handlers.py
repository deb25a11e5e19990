"""Which function does the work of which flag, and what becomes of its failures."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from models import DefinitionError, FlagError, NotAFlag, PendingFlag, PendingModel

from .pacing import Pace

F = TypeVar("F", bound=Callable[[Any], object])


class HandlerExists(DefinitionError):
    """The flag has a handler already."""


class HandlerSignal(FlagError):
    """Raised by handlers to say what is to become of the row."""


class RetryLater(HandlerSignal):
    """Not a failure, but not the time: the row is due again after `wait`.

    Args:
        wait: from now; not below zero.
        reason: kept as the row's error.
    """

    def __init__(self, wait: timedelta, reason: str = "") -> None:
        super().__init__(reason or f"due again in {wait}")
        if wait < timedelta(0):
            raise ValueError(f"wait is negative: {wait}")
        self.wait = wait


class GiveUp(HandlerSignal):
    """No attempt will succeed: the row is parked, with `reason` as its error."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


@dataclass(frozen=True, slots=True, eq=False)
class Handler:
    """A function that does a flag's work, and its options; see `handles`."""

    flag: PendingFlag
    function: Callable[[Any], Any]
    attempts: int = 10
    wait: timedelta = timedelta(seconds=10)
    longest_wait: timedelta = timedelta(hours=1)
    atomic: bool = False
    time_limit: timedelta | None = None
    max_crashes: int = 3
    batch: int | None = None
    concurrency: int = 100
    pace: Pace = field(default_factory=Pace, repr=False)

    @property
    def is_async(self) -> bool:
        """Whether a call returns at once, something to be awaited."""
        return _is_async(self.function)

    def batch_size(self, attempt: int) -> int:
        """Return the most rows in a batch of the given attempt, 1 or more.

        An eighth with each failure, and one at the last attempt: a row that fails its
        whole batch is soon alone, and no other is parked for its sake.
        """
        whole = self.batch or 1
        if attempt >= self.attempts > 1:
            return 1
        return max(1, whole >> 3 * (attempt - 1))

    def back_off(self, attempt: int) -> timedelta:
        """Return how long to wait after the failed `attempt`, 1 or more.

        Doubles with each attempt, up to the longest wait, and up to a tenth more or
        less, so that rows that failed together do not come back together.
        """
        # In seconds: a timedelta overflows long before a float.
        doubled = self.wait.total_seconds() * 2.0 ** min(attempt - 1, 40)
        seconds = min(doubled, self.longest_wait.total_seconds())
        return timedelta(seconds=seconds * random.uniform(0.9, 1.1))

    @property
    def place(self) -> str:
        """Where the function is defined: `module.name (file:line)`."""
        return _place(self.function)


_handlers: dict[str, Handler] = {}


def handles(  # noqa: PLR0913 (options, by name)
    flag: PendingFlag,
    *,
    attempts: int = 10,
    wait: timedelta = timedelta(seconds=10),
    longest_wait: timedelta = timedelta(hours=1),
    atomic: bool = False,
    time_limit: timedelta | None = None,
    max_crashes: int = 3,
    batch: int | None = None,
    concurrency: int = 100,
) -> Callable[[F], F]:
    """Let the decorated function do the work of `flag`.

    It is called with one row at a time, loaded as it is in the database. When it
    returns, the flag is cleared and what it assigned to the row's fields is saved,
    in one statement. It may be called twice for one mark (a crash), so what it does
    outside of the row should bear that: `flag.key_of_mark(row)` tells repetitions.

    With `batch` it is called with a list of rows, the longest due first. It returns
    None, or a list with an entry for each row: an exception (RetryLater and GiveUp
    included) for a row that failed, anything else for one that is done. What it
    raises is the failure of them all; they come again in smaller batches.

    An `async def` function runs in the process's event loop, for many rows at once.

    Args:
        flag: a flag of a model, as in `User.needs_welcome_email`.
        attempts: after so many failed ones the row is parked; 1 or more. With 1, a
            batch that raises is parked as a whole.
        wait: after the first failed attempt; doubles with each; above zero.
        longest_wait: the most that `wait` grows to.
        atomic: call the handler in a transaction of the flag's database, which
            commits together with the clearing of the flag, or not at all.
        time_limit: after so long TimeLimitExceeded is raised in the handler, a
            failure like others; above zero. Where it sits in a call that Python
            cannot interrupt, the lease is given up and another worker tries.
        max_crashes: a row that killed so many workers one after the other is
            parked; 1 or more.
        batch: the most rows of one call; 1 or more. None: one row, not in a list.
        concurrency: the most calls of an `async def` function that a process runs at
            the same time; 1 or more.

    Raises:
        NotAFlag: `flag` is something else.
        HandlerExists: it has a handler already; the message names both places.
        ValueError: an option is out of range.
    """

    def register(function: F) -> F:
        if not isinstance(flag, PendingFlag) or not _is_bound(flag):
            raise _no_flag(flag, function)
        if any(kind(function) for kind in _DO_NOTHING_WHEN_CALLED):
            raise DefinitionError(
                f"@handles at {_place(function)} needs a plain or an async function:"
                " called, a generator function does nothing yet"
            )
        if atomic and _is_async(function):
            raise DefinitionError(
                f"@handles at {_place(function)} is atomic, so it cannot be async: its"
                " calls would share one transaction"
            )
        handler = Handler(flag, function, **options)
        other = _handlers.setdefault(flag.label, handler)
        if other is not handler:
            raise HandlerExists(
                f"{flag.label} has two handlers: {other.place} and {handler.place}"
            )
        return function

    if inspect.isfunction(flag):
        raise _no_flag("nothing", flag)
    options: dict[str, Any] = {
        "attempts": attempts,
        "wait": wait,
        "longest_wait": longest_wait,
        "atomic": atomic,
        "time_limit": time_limit,
        "max_crashes": max_crashes,
        "batch": batch,
        "concurrency": concurrency,
    }
    _check(options)
    return register


def _check(options: dict[str, Any]) -> None:
    for name in ("wait", "longest_wait", "time_limit"):
        span = options[name]
        if span is None and name == "time_limit":
            continue
        if not isinstance(span, timedelta):
            raise TypeError(f"{name} is a timedelta, not {span!r}")
        if span <= timedelta(0):
            raise ValueError(f"{name} is not above zero: {span}")
    for name in ("attempts", "max_crashes", "batch", "concurrency"):
        if options[name] is not None and options[name] < 1:
            raise ValueError(f"{name} is below 1: {options[name]}")
    if options["wait"] > options["longest_wait"]:
        raise ValueError("wait is longer than longest_wait: {wait}".format(**options))


def handler_named(label: str) -> Handler | None:
    """Return the handler of the flag called `label`, or None."""
    return _handlers.get(label)


def all_handlers() -> list[Handler]:
    """Return every handler, in the order of registration."""
    return list(_handlers.values())


_DO_NOTHING_WHEN_CALLED = (
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)


def _is_async(function: Any) -> bool:
    call = getattr(function, "__call__", None)  # noqa: B004 (an object's may be async)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _no_flag(given: object, function: Any) -> NotAFlag:
    return NotAFlag(
        f"@handles at {_place(function)} needs a flag of a model, as in"
        f" @handles(User.needs_welcome_email), not {given!r}"
    )


def _is_bound(flag: PendingFlag) -> bool:
    model = getattr(flag, "model", None)
    return isinstance(model, type) and issubclass(model, PendingModel)


def _place(function: Any) -> str:
    code = getattr(function, "__code__", None)
    where = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
    name = getattr(function, "__qualname__", repr(function))
    return f"{getattr(function, '__module__', '?')}.{name}{where}"
