"""The soak on one database: mark and break, mend and wait, check and report.

Run by `soak.py`, in an environment of its own.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from house import House
from soak import end_once
from soak_accounts import Accounts
from soak_faults import Faults, Redis
from soak_marks import Application
from soaking import WORKS

from models import database
from models.connection import connected

SETTLING_SECONDS = 120
KINDS_OF_BELLS = len(WORKS) + 1  # a kick for each flag, and the sweep
MOST_TAKEN = 8  # by a process, that died or whose Redis did: twice its threads


def main(seconds: float, seed: str, kind: str, folder: Path) -> int:
    """Soak for so long; return the exit status."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, end_once)
    chance = random.Random(f"marks {seed} {kind}")
    with ExitStack() as stack:
        redis = Redis(folder)
        redis.start()
        stack.callback(redis.stop)
        environment = {**os.environ, "SOAK_NOTES": str(folder / "notes")}
        del environment["PATH"]  # the house's has the commands
        house = stack.enter_context(House(folder, **environment))
        application = Application(chance)
        application.prepare()
        faults = Faults(
            house, redis, application, random.Random(f"faults {seed} {kind}")
        )
        stack.callback(faults.kill_all)
        faults.start()
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            faults.tick()
            application.act()
            time.sleep(chance.uniform(0, 0.02))
        faults.mend()
        return finish(house, faults, folder)


def finish(house: House, faults: Faults, folder: Path) -> int:
    """Wait until all is done, stop, and present the accounts."""
    settled = settle(faults)
    piled_up = heap(house)
    faults.stop()
    with connected(database):
        accounts = Accounts(folder / "notes", faults)
        violations = [*accounts.check(), *piled_up]
        table = [*accounts.table(), ("settled after", f"{settled:.1f} s")]
    report(type(database).__name__, table, violations)
    return bool(violations)


def settle(faults: Faults) -> float:
    """Wait until no row is due soon or held; return how many seconds that took."""
    begun = time.monotonic()
    while unsettled() and time.monotonic() < begun + SETTLING_SECONDS:
        faults.tick(breaking=False)
        time.sleep(0.2)
    return time.monotonic() - begun


def unsettled() -> int:
    """How many rows are held, or due within the hour."""
    count = 0
    with connected(database):
        for model in WORKS:
            flag = model.needs_work
            soon = flag & (flag.due < flag.dialect.now + 3_600_000)
            held = flag.until > flag.dialect.now
            count += model.select().where(soon | held).count()
    return count


def heap(house: House) -> list[str]:
    """Complain of what has piled up in Redis."""
    keys = {k: n for k, n in house.keys().items() if "heartbeat" not in k}
    taken = {key: n for key, n in keys.items() if "__acks__" in key}
    queues = [f"{house.namespace}:{name}" for name in ("pending", "pending.sweeps")]
    texts = [f"{queue}.msgs" for queue in queues]
    hanging = sum(keys.get(queue, 0) for queue in queues)
    clean = (
        {*keys} <= {*queues, *texts, *taken}  # no dead letters
        and hanging <= KINDS_OF_BELLS
        and max(taken.values(), default=0) <= MOST_TAKEN
        # Those of bells that were just heard are taken down a moment later.
        and sum(keys.get(text, 0) for text in texts) <= hanging + MOST_TAKEN
    )
    return [] if clean else [f"piled up in Redis: {keys}"]


def report(kind: str, table: list[tuple[str, Any]], violations: list[str]) -> None:
    width = max(len(name) for name, _ in table)
    lines = [f"\n{kind}", *(f"  {name:{width}} {value:>8}" for name, value in table)]
    for violation in violations[:20]:
        lines += [f"VIOLATION: {violation}"]
    if violations:
        lines += [f"{len(violations)} violations"]
    sys.stdout.write("\n".join([*lines, ""]))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])))
