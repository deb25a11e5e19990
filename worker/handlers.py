"""Which function does the work of which flag, and what becomes of its failures."""

from __future__ import annotations

import inspect
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import (
    Any,
    Protocol,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from peewee import Field

from models import DefinitionError, FlagError, NotAFlag, PendingFlag, PendingModel
from models.gating import Limits
from models.ordering import Fields
from models.rates import Rate, rate_of

from .crews import Crew
from .pacing import Pace

_CALLS_AT_ONCE = 100

M = TypeVar("M", bound=PendingModel)

#: What a handler returns: of one row, and of a batch.
R = TypeVar("R")
Rs = TypeVar("Rs", bound=list[Any] | Awaitable[list[Any] | None] | None)


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
        if not isinstance(wait, timedelta):
            raise TypeError(f"wait is a timedelta, not {wait!r}")
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
    """A function that does a flag's work, and its options; see `handles`.

    Attributes:
        is_async: a call returns at once, something to be awaited.
    """

    flag: PendingFlag
    function: Callable[[Any], Any]
    attempts: int = 10
    wait: timedelta = timedelta(seconds=10)
    longest_wait: timedelta = timedelta(hours=1)
    atomic: bool = False
    time_limit: timedelta | None = None
    max_crashes: int = 3
    batch: int | None = None
    concurrency: int | None = None
    rate: Rate | None = None
    serialize_by: Fields = ()
    pace: Pace = field(default_factory=Pace, repr=False)
    crew: Crew = field(default_factory=Crew, repr=False)
    is_async: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_async", _is_async(self.function))

    @property
    def limits(self) -> Limits | None:
        """What its calls are bound by over all processes; None: by nothing."""
        if self.concurrency is None and self.rate is None and not self.serialize_by:
            return None
        return Limits(self.concurrency, self.rate, self.serialize_by)

    @property
    def at_once(self) -> int:
        """The most calls that the process has under way, if they are async."""
        return _CALLS_AT_ONCE if self.concurrency is None else self.concurrency

    @property
    def rows_at_once(self) -> int:
        """How many rows a thread claims at once. Each call of a handler with a rate is
        claimed by itself, and begins at once: it is counted when it is claimed."""
        if self.batch is not None or self.rate is not None:
            return self.batch or 1
        return self.pace.rows

    def is_short_of_threads(self) -> bool:
        """Say whether this thread is to drain the flag beside those that do."""
        return self.crew.joins(self.pace.row_seconds)

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


class Options(TypedDict, total=False):
    """The options of `handles` but for `batch`, which decides about the argument."""

    attempts: int
    wait: timedelta
    longest_wait: timedelta
    atomic: bool
    time_limit: timedelta | None
    max_crashes: int
    concurrency: int | None
    rate: str | None
    serialize_by: Field[Any] | Sequence[Field[Any]]


class OfRow(Protocol[M]):
    """Decorates a function that takes one row."""

    def __call__(self, function: Callable[[M], R], /) -> Callable[[M], R]: ...


class OfBatch(Protocol[M]):
    """Decorates a function that takes a list of rows, and returns None or a list."""

    def __call__(
        self, function: Callable[[list[M]], Rs], /
    ) -> Callable[[list[M]], Rs]: ...


@overload
def handles(
    flag: PendingFlag[M], *, batch: None = None, **options: Unpack[Options]
) -> OfRow[M]: ...
@overload
def handles(
    flag: PendingFlag[M], *, batch: int, **options: Unpack[Options]
) -> OfBatch[M]: ...
def handles(  # noqa: PLR0913 (options, by name)
    flag: Any,
    *,
    attempts: int = 10,
    wait: timedelta = timedelta(seconds=10),
    longest_wait: timedelta = timedelta(hours=1),
    atomic: bool = False,
    time_limit: timedelta | None = None,
    max_crashes: int = 3,
    batch: int | None = None,
    concurrency: int | None = None,
    rate: str | None = None,
    serialize_by: Field[Any] | Sequence[Field[Any]] = (),
) -> Any:
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
        concurrency: the most calls that run at the same time, over all processes; 1 or
            more. None: each thread of each process runs one, and the calls of an
            `async def` function are 100 in a process.
        rate: at most so many calls begin in any second, minute, hour or day, over all
            processes: `10/s`, `100/m`, `1000/h`, `5000/d`.
        serialize_by: a field of the flag's model, or several: rows with the same values
            run one after the other, over all processes, in the order in which they
            were marked. One that waits for its next attempt keeps the later ones
            waiting, one that is parked does not.

    Raises:
        NotAFlag: `flag` is something else.
        HandlerExists: it has a handler already; the message names both places.
        DefinitionError: the function, or a field, is of a kind that cannot be.
        TypeError, ValueError: an option is out of range.
    """

    def register(function: Any) -> Any:
        if not isinstance(flag, PendingFlag) or not _is_bound(flag):
            raise _no_flag(flag, function)
        _check_function(function, batch=batch, atomic=atomic)
        own = _fields(flag, serialize_by)
        handler = Handler(flag, function, serialize_by=own, **options)
        other = _handlers.setdefault(flag.label, handler)
        if other is not handler:
            raise HandlerExists(
                f"{flag.label} has two handlers: {other.place} and {handler.place}"
            )
        flag.serialize_by = own
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
    options["rate"] = None if rate is None else rate_of(rate)
    return register


def _check_function(function: Any, *, batch: int | None, atomic: bool) -> None:
    place = _place(function)
    if any(kind(function) for kind in _DO_NOTHING_WHEN_CALLED):
        raise DefinitionError(
            f"@handles at {place} needs a plain or an async function: called, a"
            " generator function does nothing yet"
        )
    if not _takes_one(function):
        what = "a row" if batch is None else "a list of rows"
        raise DefinitionError(
            f"@handles at {place} needs a function that can be called with {what}, and"
            " nothing else"
        )
    if atomic and _is_async(function):
        raise DefinitionError(
            f"@handles at {place} is atomic, so it cannot be async: its calls would"
            " share one transaction"
        )


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
        _check_number(name, options[name])
    if options["wait"] > options["longest_wait"]:
        raise ValueError("wait is longer than longest_wait: {wait}".format(**options))


def _check_number(name: str, number: Any) -> None:
    if number is None and name in {"batch", "concurrency"}:
        return
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{name} is a whole number, not {number!r}")
    if number < 1:
        raise ValueError(f"{name} is below 1: {number}")


def _fields(flag: PendingFlag, given: Any) -> Fields:
    """Return the fields of the flag's model that `given` are, or are inherited as."""
    fields = (given,) if isinstance(given, Field) else tuple(given)
    known, model = flag.model._meta.fields, flag.model
    taken = {name for one in model._meta.flags for name in (one.name, *_names(one))}
    for one in fields:
        is_own = isinstance(one, Field) and issubclass(model, one.model)
        if not is_own or one.name not in known or one.name in taken:
            raise DefinitionError(
                f"serialize_by of {flag.label} is a field of {model.__name__}, or"
                f" several, as in serialize_by=Order.customer, not {one!r}"
            )
    return tuple(known[one.name] for one in fields)


def _names(flag: PendingFlag) -> list[str]:
    return [companion.name for companion in flag.companions.values()]


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


def _takes_one(function: Any) -> bool:
    try:
        inspect.signature(function).bind(object())
    except TypeError:
        return False
    except ValueError:  # a builtin's is not known
        pass
    return True


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
