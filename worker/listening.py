"""A worker's queues that are not its broker's: the bells, and the watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dramatiq.worker import ConsumerThread


class _Source:
    """A worker's broker, but its messages come from somewhere else."""

    def __init__(self, broker: Any, consume: Callable[..., Any]) -> None:
        self._broker, self.consume = broker, consume

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)


def listen(worker: Any, queue_name: str, consume: Callable[..., Any]) -> None:
    """Let `worker`, which is about to start, handle what another consumer hears.

    Args:
        consume: makes it; called with `queue_name`, `prefetch` and `timeout`, ms, and
            again after it has raised.
    """
    thread = ConsumerThread(
        broker=_Source(worker.broker, consume),  # type: ignore[arg-type]
        queue_name=queue_name,
        # What is fetched beyond the threads waits behind their handlers, while
        # another process may be idle.
        prefetch=worker.worker_threads,
        work_queue=worker.work_queue,
        worker_timeout=worker.worker_timeout,
    )
    worker.consumers[queue_name] = thread  # so that dramatiq adds none of its own
    thread.start()
