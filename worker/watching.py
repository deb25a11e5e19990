"""The in-worker sweeper: due rows are found when no bell is heard.

A consumer of a queue that exists in this process alone. To dramatiq it is one
more source of kicks, handled by the same threads, but behind it is the database:
with Redis and the clock gone, each process looks at its flags every
`SWEEP_SECONDS`.
"""

from __future__ import annotations

import time
from typing import Any

from dramatiq import Consumer, MessageProxy

from .kicking import kick
from .redis_broker import broker
from .settings import settings
from .sweeping import due_flags

#: The name of the queue in this process.
WATCH = "pending.watch"

_NAP_SECONDS = 0.5  # how long a process that is to end may wait for this thread


class Watch(Consumer):
    """Yields a kick for each flag with work due, at most one a flag at a time."""

    def __init__(self) -> None:
        self._found: list[str] = []
        self._kicked: set[str] = set()
        self._next_look = time.monotonic()

    def __next__(self) -> MessageProxy | None:
        if not self._found:
            self._look_or_nap()
        if not self._found:
            return None
        label = self._found.pop(0)
        self._kicked.add(label)
        return MessageProxy(kick.message(label).copy(queue_name=WATCH))

    def _look_or_nap(self) -> None:
        rest = self._next_look - time.monotonic()
        if rest > 0:
            time.sleep(min(rest, _NAP_SECONDS))
            return
        self._next_look = time.monotonic() + settings.sweep_every.total_seconds()
        labels = [flag.label for flag in due_flags()]
        self._found = [label for label in labels if label not in self._kicked]

    def ack(self, message: Any) -> None:
        self._kicked.discard(message.args[0])

    nack = ack


broker.local_consumers[WATCH] = Watch
broker.declare_queue(WATCH)
