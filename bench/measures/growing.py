"""What a table ten times as long costs: the look, and the worker's memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from system import System

_TIMES, _FEW = 10, 10
_EVERY_SECONDS = 0.2
_MEGABYTE = 1_000_000


def measure(system: System, rows: int) -> dict[str, float]:
    system.fill(_FEW)
    few = system.produce("probe", module="ours.probing")
    many = rows * _TIMES
    system.bulk(system.fill(many))
    system.start()
    with sampled(system) as memory:
        over = system.wait()
    first = system.sql("SELECT min(welcomed_at) FROM users")[0][0]
    system.stop()
    return {
        f"sweep with nothing due, {_FEW} rows ms": few,
        "sweep with nothing due, all rows ms": system.produce(
            "probe", module="ours.probing"
        ),
        "rows": many,
        "drain of all rows /s": many / (over - first),
        "memory, a quarter done MB": memory[len(memory) // 4] / _MEGABYTE,
        "memory, all done MB": memory[-1] / _MEGABYTE,
    }


@contextmanager
def sampled(system: System) -> Iterator[list[int]]:
    """Note again and again how much memory the worker's processes have resident."""
    memory, over = [], threading.Event()

    def sample() -> None:
        while not over.wait(_EVERY_SECONDS):
            memory.append(system.memory_bytes())

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield memory
    finally:
        over.set()
        sampler.join()
        memory.append(system.memory_bytes())
