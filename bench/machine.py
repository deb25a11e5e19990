"""Where and with what was measured."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import redis

_PACKAGES = (
    *("dramatiq", "celery", "huey", "procrastinate", "pgqueuer"),
    *("peewee", "psycopg", "asyncpg", "redis"),
)
_SETTINGS = ("server_version", "fsync", "synchronous_commit", "shared_buffers")


def describe(rows: int, rounds: int) -> dict[str, Any]:
    """Return what is to be known beside the figures."""
    from models.connection import database_from_url  # noqa: PLC0415

    database = database_from_url(os.environ["DATABASE_URL"])
    with database.connection_context():
        postgresql = {
            name: database.execute_sql(f"SHOW {name}").fetchone()[0]
            for name in _SETTINGS
        }
    database.close_idle()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "rows": rows,
        "rounds": rounds,
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory GB": round(psutil.virtual_memory().total / 1e9),
        "load before": round(os.getloadavg()[0], 1),
        "system": platform.system(),
        "Python": platform.python_version(),
        "PostgreSQL": postgresql,
        "Redis": _redis(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _redis() -> str:
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        info = client.info("server")
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info['redis_version']}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
