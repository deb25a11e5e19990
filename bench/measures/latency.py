"""Milliseconds from a commit to the handler: rare jobs, a worker that is idle.

The one clock of this machine times both.
"""

from __future__ import annotations

import statistics

from system import System

_MOST = 300
_PAUSE_SECONDS = 0.035  # the mean; from half of it to one and a half


def measure(system: System, rows: int) -> dict[str, float]:
    count = min(max(rows // 10, 30), _MOST)
    commits = system.enqueue(count, pause=_PAUSE_SECONDS)["commits"]
    system.wait()
    seen = dict(system.sql("SELECT email, welcomed_at FROM users ORDER BY id"))
    waits = [
        (seen[email] - at) * 1000
        for email, at in commits.items()
        if email.startswith("user")
    ]
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return {f"p{percent} ms": max(cuts[percent - 1], 0) for percent in (50, 95, 99)}
