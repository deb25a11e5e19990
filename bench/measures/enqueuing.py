"""Users signed up a second, one a transaction, each enqueued; the workers are down."""

from __future__ import annotations

from lineup import OURS
from system import System

_MOST = 2000


def measure(system: System, rows: int) -> dict[str, float]:
    count = min(rows, _MOST)
    figures = {"enqueue /s": count / system.enqueue(count)["seconds"]}
    if system.kind is OURS:
        bare = system.produce("enqueue", str(count), "0", module="ours.bare")
        figures["bare INSERT /s"] = count / bare["seconds"]
        figures["messages in the queue"] = system.redis.llen(
            f"{system.namespace}:pending"
        )
    return figures
