"""Users signed up a second, one a transaction, each enqueued; the workers are down."""

from __future__ import annotations

from lineup import OURS
from system import System

_MOST = 2000
_TURNS = 2  # with the reference, so that both meet the same moods of the machine


def measure(system: System, rows: int) -> dict[str, float]:
    count = min(rows, _MOST)
    if system.kind is not OURS:
        return {"enqueue /s": count / system.enqueue(count)["seconds"]}
    ours, bare = 0.0, 0.0
    each = str(count // _TURNS)
    for _ in range(_TURNS):
        ours += system.produce("enqueue", each)["seconds"]
        bare += system.produce("enqueue", each, module="ours.bare")["seconds"]
    queues = [f"{system.namespace}:{name}" for name in ("pending", "pending.sweeps")]
    return {
        "enqueue /s": count / ours,
        "bare INSERT /s": count / bare,
        "messages in the queue": sum(system.redis.llen(queue) for queue in queues),
    }
