"""Jobs a second that a worker does which finds the queue full when it starts.

From the moment that the first user was welcomed until all were seen to be, all
committed: what starting a worker takes does not count.
"""

from __future__ import annotations

from system import System


def measure(system: System, rows: int) -> dict[str, float]:
    keys = system.fill(rows)
    enqueued = rows / system.bulk(keys)["seconds"]
    system.start()
    over = system.wait()
    first = system.sql("SELECT min(welcomed_at) FROM users")[0][0]
    system.stop()
    return {"bulk enqueue /s": enqueued, "drain /s": rows / (over - first)}
