"""The in-worker sweeper: due rows are found when no bell is heard.

A consumer of a queue that exists in this process alone. To dramatiq it is one
more source of kicks, handled by the same threads, but behind it is the database:
with Redis and the clock gone, each process looks at its flags every
`SWEEP_SECONDS`.
"""

from __future__ import annotations

import time
from typing import Any

from dramatiq import Consumer, MessageProxy, Middleware

from models import PendingFlag

from .choosing import own_handlers
from .kicking import bell_of
from .resting import look_again, rests
from .settings import settings
from .sweeping import due_flags
from .tallying import pulse

#: The name of the queue in this process.
WATCH = "pending.watch"

_NAP_SECONDS = 0.5  # how long a process that is to end may wait for this thread


class Watch(Consumer):
    """Yields a kick for each flag with work due, at most one a flag that waits for a
    thread. Those at work are no reason to wait: one of them may be stuck."""

    def __init__(self, **_: Any) -> None:
        self._found: list[PendingFlag] = []
        self._kicked: dict[str, Any] = {}
        self._next_look = time.monotonic()
        look_again.clear()

    def __next__(self) -> MessageProxy | None:
        if not self._found:
            flags = self._look_or_nap()
            self._found = [flag for flag in flags if not self._waits(flag.label)]
        if not self._found:
            return None
        flag = self._found.pop(0)
        message = MessageProxy(bell_of(flag, queue=WATCH))
        self._kicked[flag.label] = message
        return message

    def _look_or_nap(self) -> list[PendingFlag]:
        """Return the flags that have rested, else those that have work due; none after
        a nap in which nothing was asked for."""
        rest = min(self._next_look, rests.next()) - time.monotonic()
        asked = rest <= 0 or look_again.wait(min(rest, _NAP_SECONDS))
        rested = rests.take_ended()
        if rested or not asked:
            return rested
        look_again.clear()
        self._next_look = time.monotonic() + settings.sweep_every.total_seconds()
        due = due_flags(own_handlers())
        pulse.looked = time.monotonic()
        return due

    def _waits(self, label: str) -> bool:
        kicked = self._kicked.get(label)
        return kicked is not None and "begun" not in kicked.options

    def ack(self, message: Any) -> None:
        label = message.args[0]
        if self._kicked.get(label) is message:
            del self._kicked[label]

    nack = ack


class Begins(Middleware):
    """Tells the watch that a thread has taken a kick of its."""

    def before_process_message(self, broker: Any, message: Any) -> None:
        if message.queue_name == WATCH:
            message.options["begun"] = True
