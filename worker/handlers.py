"""Which function does the work of which flag, and what becomes of its failures."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from models import DefinitionError, PendingFlag
from models.gating import Limits
from models.ordering import Fields
from models.rates import Rate

from .crews import Crew
from .pacing import Pace

_CALLS_AT_ONCE = 100


class HandlerExists(DefinitionError):
    """The flag has a handler already."""


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
        object.__setattr__(self, "is_async", is_async(self.function))

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
        if self.pace.claim_is_stuck():
            self.crew.notes()
            return False
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
        return place_of(self.function)


_handlers: dict[str, Handler] = {}


def add(handler: Handler) -> None:
    """Let `handler` be its flag's.

    Raises:
        HandlerExists: the flag has one already; the message names both places.
    """
    other = _handlers.setdefault(handler.flag.label, handler)
    if other is not handler:
        raise HandlerExists(
            f"{handler.flag.label} has two handlers: {other.place} and {handler.place}"
        )


def handler_named(label: str) -> Handler | None:
    """Return the handler of the flag called `label`, or None."""
    return _handlers.get(label)


def all_handlers() -> list[Handler]:
    """Return every handler, in the order of registration."""
    return list(_handlers.values())


def is_async(function: Any) -> bool:
    """Say whether a call returns at once, something to be awaited."""
    call = getattr(function, "__call__", None)  # noqa: B004 (an object's may be async)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def place_of(function: Any) -> str:
    """Return where `function` is defined: `module.name (file:line)`."""
    code = getattr(function, "__code__", None)
    where = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
    name = getattr(function, "__qualname__", repr(function))
    return f"{getattr(function, '__module__', '?')}.{name}{where}"
