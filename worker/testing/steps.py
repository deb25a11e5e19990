"""The steps at which a worker may die, counted as they are reached.

A death is an exception that nothing catches but the drain; and the dead write
nothing more: each further statement of theirs raises it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Killed(BaseException):
    """The worker is dead, in a simulation."""


class Steps:
    """The steps of one scenario, by the names that people read.

    Attributes:
        names: of those that were reached, in their order.
        is_dead: the worker was killed, and no other has taken over yet.
        in_handler: the user's function runs: its writes are steps.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.is_dead = self.in_handler = False
        self._are_counted, self._fatal = False, 0

    def begin(self, *, fatal: int) -> None:
        """Count from the start.

        Args:
            fatal: the step that kills, from 1; 0: none does.
        """
        self.names, self.is_dead = [], False
        self._are_counted, self._fatal = True, fatal

    def end(self) -> None:
        """Count no more."""
        self._are_counted = self.is_dead = False

    def reached(self, name: str) -> None:
        """Note that a step is reached; raise Killed if it is the fatal one."""
        self.check()
        if not self._are_counted:
            return
        self.names.append(name)
        if len(self.names) == self._fatal:
            self.is_dead = True
            raise Killed(name)

    def check(self) -> None:
        """Raise Killed if the worker is dead."""
        if self.is_dead:
            raise Killed

    def inside(self, name: str) -> None:
        """Note a step that is one only in a handler."""
        if self.in_handler:
            self.reached(name)

    @contextmanager
    def handling(self) -> Iterator[None]:
        """The user's function runs in the block."""
        self.in_handler = True
        try:
            yield
        finally:
            self.in_handler = False


steps = Steps()
