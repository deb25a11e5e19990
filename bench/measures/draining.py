"""Jobs a second that a worker does which finds the queue full when it starts.

From the moment that the first user was welcomed until all were seen to be, all
committed: what starting a worker takes does not count. Beside it the CPU time that
the worker's processes took for each job, in which a busy machine shows less.
"""

from __future__ import annotations

from system import System

_MICROSECONDS = 1_000_000


def measure(system: System, rows: int) -> dict[str, float]:
    rows = max(int(rows * system.kind.part), 1)
    keys = system.fill(rows)
    enqueued = rows / system.bulk(keys)["seconds"]
    system.start()
    system.wait_for_first()
    cpu = system.cpu_seconds()
    over = system.wait()
    cpu = system.cpu_seconds() - cpu
    first = system.sql("SELECT min(welcomed_at) FROM users")[0][0]
    system.stop()
    return {
        "bulk enqueue /s": enqueued,
        "drain /s": rows / (over - first),
        "worker CPU µs a job": cpu * _MICROSECONDS / rows,
    }
