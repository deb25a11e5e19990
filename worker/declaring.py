"""How a function becomes a flag's handler: `@handles`, and what it may not be."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
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

from models import DefinitionError, NotAFlag, PendingFlag, PendingModel
from models.ordering import Fields
from models.rates import rate_of

from .handlers import Handler, add, is_async, place_of

M = TypeVar("M", bound=PendingModel)

#: What a handler returns: of one row, and of a batch.
R = TypeVar("R")
Rs = TypeVar("Rs", bound=list[Any] | Awaitable[list[Any] | None] | None)

_DO_NOTHING_WHEN_CALLED = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)


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
        add(Handler(flag, function, serialize_by=own, **options))
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
    place = place_of(function)
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
    if atomic and is_async(function):
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
        f"@handles at {place_of(function)} needs a flag of a model, as in"
        f" @handles(User.needs_welcome_email), not {given!r}"
    )


def _is_bound(flag: PendingFlag) -> bool:
    model = getattr(flag, "model", None)
    return isinstance(model, type) and issubclass(model, PendingModel)
