"""What a worker costs that has nothing to do."""

from __future__ import annotations

import time

from system import System

_SECONDS, _FEW_SECONDS = 10, 3


def measure(system: System, rows: int) -> dict[str, float]:
    time.sleep(1)  # the last job's end is not idleness
    seconds = _FEW_SECONDS if rows < 2000 else _SECONDS
    cpu, commands = system.cpu_seconds(), _commands(system)
    time.sleep(seconds)
    return {
        "idle CPU s/min": (system.cpu_seconds() - cpu) * 60 / seconds,
        "idle Redis commands/s": (_commands(system) - commands - 1) / seconds,
    }


def _commands(system: System) -> int:
    return system.redis.info("stats")["total_commands_processed"]
