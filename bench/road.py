"""Measures the whole road on this machine: marking, draining, and the kick.

    make bench            2,000 rows
    make bench ROWS=200   a small run

It starts its own servers: an embedded Valkey and, unless POSTGRES_URL names one, an
embedded PostgreSQL; and `dramatiq worker` with two processes. bench/README.md says
what the figures mean.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "tests")]

KICKS = 50


def main(rows: int) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        start_servers(folder, stack)
        # Both read the environment when they are imported.
        from accounts import Account  # noqa: PLC0415
        from house import House  # noqa: PLC0415

        names = ("DATABASE_URL", "REDIS_URL", "REDIS_NAMESPACE")
        settings = {name: os.environ[name] for name in names}
        settings["PYTHONPATH"] = str(HERE)
        Account.create_table()
        stack.callback(Account.drop_table)
        house = stack.enter_context(House(folder, **settings))
        figures = marking(Account, rows)
        house.start_worker("accounts")
        figures |= draining(Account)
        figures |= kicking(Account)
        version = Account._meta.database.server_version
    report(rows, figures, version)


def start_servers(folder: Path, stack: ExitStack) -> None:
    """Start Redis, and PostgreSQL if none is named; tell the environment of both."""
    from servers import embedded_postgresql, embedded_redis  # noqa: PLC0415

    redis = embedded_redis(folder)
    stack.callback(redis.stop)
    url = os.environ.get("POSTGRES_URL")
    if not url:
        postgresql = embedded_postgresql(folder)
        stack.callback(postgresql.stop)
        url = postgresql.url
    os.environ["DATABASE_URL"] = url
    os.environ["REDIS_URL"] = redis.url
    os.environ["REDIS_NAMESPACE"] = f"bench-{uuid.uuid4()}"


def marking(account: Any, rows: int) -> dict[str, float]:
    """Rows a second: a bare INSERT, an INSERT with its flag, and one bulk UPDATE."""

    def insert(**values: Any) -> Callable[[], object]:
        return lambda: [account.create(name=str(i), **values) for i in range(rows)]

    def mark_all() -> None:
        account.update(needs_look=True).execute()

    return {
        "insert, bare": rows / seconds(insert()),
        "insert, marked and kicked": rows / seconds(insert(needs_look=True)),
        "bulk mark": 2 * rows / seconds(mark_all),
    }


def draining(account: Any) -> dict[str, float]:
    """Rows a second from the first handled row to the last, workers being up."""
    wait_until_idle(account)
    seen = [row.seen_at for row in account.select(account.seen_at)]
    return {"drain": len(seen) / (max(seen) - min(seen))}


def kicking(account: Any) -> dict[str, float]:
    """Milliseconds from the commit of one mark to its handler, workers being idle."""
    latencies = []
    for number in range(KICKS):
        row = account.create(name=f"kick {number}", needs_look=True)
        committed = time.time()
        wait_until_idle(account)
        seen = account.get_by_id(row.id).seen_at
        latencies.append(max(seen - committed, 0) * 1000)
    cuts = statistics.quantiles(latencies, n=100)
    return {"kick p50": cuts[49], "kick p95": cuts[94]}


def wait_until_idle(account: Any) -> None:
    while account.select().where(account.needs_look).exists():
        time.sleep(0.01)


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def report(rows: int, figures: dict[str, float], version: int) -> None:
    base = figures["insert, bare"]
    print(f"{rows} rows, PostgreSQL {version // 10000}, {os.cpu_count()} cores,")
    print(f"Python {platform.python_version()}, {platform.machine()}\n")
    print("| measure | figure | to a bare insert |\n|---|---|---|")
    for name, figure in figures.items():
        unit = "ms" if name.startswith("kick") else "/s"
        ratio = f"{figure / base:.2f}" if unit == "/s" else ""
        print(f"| {name} | {figure:,.1f} {unit} | {ratio} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
