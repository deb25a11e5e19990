"""The servers that are measured on: those the environment names, or our own."""

from __future__ import annotations

import os
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "tests")]


def start_servers(folder: Path, stack: ExitStack, *, own_redis: bool) -> None:
    """Start what the environment names no server of, and tell it of them.

    Args:
        own_redis: start a Redis even if REDIS_URL names one: it is to be killed.
    """
    from servers import embedded_postgresql, embedded_redis  # noqa: PLC0415

    if own_redis or not os.environ.get("REDIS_URL"):
        redis = embedded_redis(folder)
        stack.callback(redis.stop)
        os.environ["REDIS_URL"] = redis.url
    url = os.environ.get("POSTGRES_URL")
    if not url:
        postgresql = embedded_postgresql(folder)
        stack.callback(postgresql.stop)
        url = postgresql.url
    os.environ["DATABASE_URL"] = url
    os.environ["REDIS_NAMESPACE"] = f"bench{uuid.uuid4().hex}"
