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

from .kicking import kick, look_again
from .redis_broker import broker
from .settings import settings
from .sweeping import due_flags
from .tallying import pulse

#: The name of the queue in this process.
WATCH = "pending.watch"

_NAP_SECONDS = 0.5  # how long a process that is to end may wait for this thread


class Watch(Consumer):
    """Yields a kick for each flag with work due, at most one a flag that waits for a
    thread. Those at work are no reason to wait: one of them may be stuck."""

    def __init__(self) -> None:
        self._found: list[str] = []
        self._kicked: dict[str, Any] = {}
        self._next_look = time.monotonic()
        look_again.clear()

    def __next__(self) -> MessageProxy | None:
        if not self._found:
            self._look_or_nap()
        if not self._found:
            return None
        label = self._found.pop(0)
        message = MessageProxy(kick.message(label).copy(queue_name=WATCH))
        self._kicked[label] = message
        return message

    def _look_or_nap(self) -> None:
        rest = self._next_look - time.monotonic()
        if rest > 0 and not look_again.wait(min(rest, _NAP_SECONDS)):
            return
        look_again.clear()
        self._next_look = time.monotonic() + settings.sweep_every.total_seconds()
        labels = [flag.label for flag in due_flags()]
        pulse.looked = time.monotonic()
        self._found = [label for label in labels if not self._waits(label)]

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


broker.add_middleware(Begins())
broker.local_consumers[WATCH] = Watch
broker.declare_queue(WATCH)
