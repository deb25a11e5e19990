"""How long a worker's look takes that finds nothing due."""

from __future__ import annotations

import statistics
import time

from models import database
from models.claiming import is_due
from ours.user import User

_TIMES = 300


def probe() -> float:
    """Return the median, ms."""
    with database.connection_context():
        return statistics.median(_once() for _ in range(_TIMES))


def _once() -> float:
    started = time.perf_counter()
    assert not is_due(User.needs_welcome)
    return (time.perf_counter() - started) * 1000
