"""python -m raw.worker job|claim|batch: drains in hand-written SQL, for ever."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
from collections.abc import Callable

from peers.users import connection

from raw.users import SAVE, TAKE

_CLAIM, _BATCH = 100, 1000


def job() -> bool:
    """One row a commit."""
    with connection().transaction():
        user = connection().execute(TAKE.format(1)).fetchone()
        if user:
            connection().execute(SAVE, [time.time(), user[0]])
    return bool(user)


def claim() -> bool:
    """A hundred rows a commit, an UPDATE each."""
    with connection().transaction():
        users = connection().execute(TAKE.format(_CLAIM)).fetchall()
        for user in users:
            connection().execute(SAVE, [time.time(), user[0]])
    return bool(users)


def batch() -> bool:
    """A thousand rows with one UPDATE."""
    with connection().transaction():
        users = connection().execute(TAKE.format(_BATCH)).fetchall()
        many = SAVE.replace("id = %s", "id = ANY(%s)")
        connection().execute(many, [time.time(), [user[0] for user in users]])
    return bool(users)


def forever(step: Callable[[], bool]) -> None:
    while True:
        if not step():
            time.sleep(0.01)


def threads(step: Callable[[], bool], count: int) -> None:
    for _ in range(count):
        threading.Thread(target=forever, args=(step,)).start()


def main(name: str) -> None:
    step, processes, count = {
        "job": (job, 2, 8),
        "claim": (claim, 2, 1),
        "batch": (batch, 1, 1),
    }[name]
    for _ in range(processes):
        multiprocessing.Process(target=threads, args=(step, count), daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1])
