"""Measures the bounds that are promised: what faults cost, in time.

    python bench/bounds.py

A Redis of its own. A mark with Redis well, refused and hung; then the time
from kill -9 of a worker to the next attempt by another one, and from a mark to its
handler with Redis gone. bench/README.md says what the figures mean.
"""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from services import HERE, start_servers
from waiting import wait_for

LEASE_SECONDS, SWEEP_SECONDS = 3, 1
MARKS = 200

Figures = dict[str, tuple[float, str, str]]


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        start_servers(folder, stack, own_redis=True)
        # Both read the environment when they are imported.
        from accounts import Account  # noqa: PLC0415
        from house import House  # noqa: PLC0415

        names = ("DATABASE_URL", "REDIS_URL", "REDIS_NAMESPACE")
        settings = {name: os.environ[name] for name in names}
        settings |= {"PYTHONPATH": str(HERE), "LEASE_SECONDS": str(LEASE_SECONDS)}
        settings["SWEEP_SECONDS"] = str(SWEEP_SECONDS)
        Account.create_table()
        stack.callback(Account.drop_table)
        figures = marking(Account)
        house = stack.enter_context(House(folder, **settings))
        figures |= recovering(Account, house)
    report(figures)


def marking(account: Any) -> Figures:
    """Milliseconds that a mark takes more than a like statement without a kick.

    Redis is hung for a while, and gone in the end.
    """
    from worker import broker  # noqa: PLC0415 (after the environment is set)

    row = account.create(name="marked")
    mine = account.id == row.id

    def mark() -> None:
        account.update(needs_look=True).where(mine).execute()

    def rename() -> None:
        account.update(name="renamed").where(mine).execute()

    bare = milliseconds(rename, MARKS)
    redis = broker.client.info("server")["process_id"]
    figures = {
        "a mark's kick, Redis well": (milliseconds(mark, MARKS) - bare, "ms", "")
    }
    for word, fault in (("hung", signal.SIGSTOP), ("gone", signal.SIGKILL)):
        os.kill(redis, fault)
        first = milliseconds(mark, 1) - bare
        others = milliseconds(mark, MARKS) - bare
        figures[f"a mark's kick, Redis {word}: the first"] = (first, "ms", "50 ms")
        figures[f"a mark's kick, Redis {word}: others"] = (others, "ms", "1 ms")
        os.kill(redis, signal.SIGCONT)
        broker.breaker.worked()
    account.delete().execute()
    return figures


def recovering(account: Any, house: Any) -> Figures:
    """Seconds until work goes on, with Redis gone and no clock."""
    first = house.start_worker("accounts", processes=1)
    slow = account.create(name="slow", needs_look=True)
    flag = account.needs_look
    wait_for(lambda: account.select().where(flag.lease.is_null(False)).exists())
    house.start_worker("accounts", processes=1)
    killed = time.time()
    os.killpg(first.pid, signal.SIGKILL)
    again = seen(account, slow) - killed
    marked = time.time()
    found = seen(account, account.create(name="quiet", needs_look=True)) - marked
    bound = LEASE_SECONDS + SWEEP_SECONDS
    return {
        "kill -9 to the next attempt": (again, "s", f"{bound} s and a few"),
        "mark to handler without Redis": (found, "s", f"{SWEEP_SECONDS + 5} s"),
    }


def seen(account: Any, row: Any) -> float:
    """Wait until the row was handled; return when, seconds since the epoch."""

    def when() -> float | None:
        return account.get_by_id(row.id).seen_at

    return wait_for(when)


def milliseconds(action: Callable[[], None], times: int) -> float:
    """Return the median of how long `action` takes."""

    def once() -> float:
        started = time.perf_counter()
        action()
        return (time.perf_counter() - started) * 1000

    return statistics.median(once() for _ in range(times))


def report(figures: Figures) -> None:
    print(f"LEASE_SECONDS={LEASE_SECONDS}, SWEEP_SECONDS={SWEEP_SECONDS}\n")
    print("| measure | figure | promised at most |\n|---|---|---|")
    for name, (figure, unit, bound) in figures.items():
        print(f"| {name} | {figure:.2f} {unit} | {bound} |")


if __name__ == "__main__":
    main()
