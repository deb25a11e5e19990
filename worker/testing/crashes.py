"""What becomes of a scenario if a worker dies in it, at each step in turn.

Simulated in this process, in a transaction that is rolled back: at the step an
exception ends the handler that nothing of ours catches, what was not committed is
undone, the dead worker's lease runs out, and another one takes over.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self
from unittest import mock

from models.finding import flags

from .stage import is_there, undone_afterwards
from .steps import steps


class Crash:
    """One run of the scenario: the block `with crash:`.

    Attributes:
        step: where the worker dies, in words; "nowhere" in the first run.
        steps: those that the block reached; known when it is over.
    """

    def __init__(self, around: Sequence[str], fatal: int = 0, step: str = "") -> None:
        self.step = step or "nowhere"
        self.steps: list[str] = []
        self.is_over = False
        self._around, self._fatal = around, fatal
        self._stack = ExitStack()

    def __str__(self) -> str:
        return f"a worker dies {self.step}"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for database in dict.fromkeys(f.database for f in flags() if is_there(f)):
                stack.enter_context(undone_afterwards(database))
            for target in self._around:
                stack.enter_context(_watched(target))
            self._stack = stack.pop_all()
        steps.begin(fatal=self._fatal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.steps, self.is_over = steps.names, True
        steps.end()
        self._stack.close()
        if error is not None:
            error.add_note(f"In this run of the test {self}.")


def crashing(*, around: Sequence[str] = ()) -> Iterator[Crash]:
    """Run a scenario again and again: at first undisturbed, then with a worker that
    dies, at each of its steps in turn.

        for crash in crashing(around=["shop.jobs.charge"]):
            with crash:
                order = Order.create(needs_receipt=True)
                drain()
                assert_idle(order, Order.needs_receipt)

    The block marks rows, drains and asserts. Within it one `drain()` goes on after
    the death, as the worker that takes over. After it the databases are as before;
    what else it changes is its own to reset.

    Args:
        around: functions that handlers call, `module.name` where it is looked up:
            before and after each call is a step. So is each write to the database and
            each commit, in a handler; the claim; and the finish.

    Raises:
        AssertionError: the first block handled nothing, so it would prove nothing.
        RuntimeError: the loop's body is no `with crash:`.
    """
    first = Crash(around)
    yield first
    if not first.is_over:
        raise RuntimeError("write `with crash:` in the loop")
    if not first.steps:
        raise AssertionError(
            "no step was reached at which a worker could die: does the block mark a row"
            " that is due, and drain?"
        )
    for number, step in enumerate(first.steps, 1):
        yield Crash(around, number, step)


def _watched(target: str) -> Any:
    """Return the patch that makes a step of what is before and after each call."""
    place, _, name = target.rpartition(".")
    owner = pkgutil.resolve_name(place)
    return mock.patch.object(owner, name, _stepped(getattr(owner, name), name))


def _stepped(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        steps.inside(f"before {name}()")
        result = function(*args, **kwargs)
        if inspect.isawaitable(result):
            return _awaited(result)
        steps.inside(f"after {name}()")
        return result

    async def _awaited(result: Any) -> Any:
        value = await result
        steps.inside(f"after {name}()")
        return value

    return call
