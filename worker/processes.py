"""The life of a worker process, as dramatiq's middleware sees it."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import peewee
from dramatiq import Middleware

from models import BadSetting, database
from models.connection import connected

from .handlers import all_handlers
from .handling import stopping
from .redis_broker import broker
from .watching import WATCH


class Life(Middleware):
    """Starts, ends, and does not outlive its parent."""

    def after_process_boot(self, broker: Any) -> None:
        parent = os.getppid()
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()

    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        for known in {database, *(handler.flag.database for handler in all_handlers())}:
            reach(known)
        # What is fetched beyond the threads waits behind their handlers, while
        # another process may be idle.
        worker.queue_prefetch = worker.worker_threads
        if worker.consumer_whitelist:
            worker.consumer_whitelist.add(WATCH)

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        stopping.set()


def reach(database: peewee.Database) -> None:
    """Connect to `database` once.

    Raises:
        BadSetting: it does not answer.
    """
    try:
        with connected(database):
            pass
    except (peewee.DatabaseError, peewee.InterfaceError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise BadSetting(
            "DATABASE_URL",
            f"the database {database.database} does not answer: {reason}",
        ) from None


def _end_after(parent: int) -> None:
    """End once `parent` is gone. A main process that was killed leaves its children
    at work, and nobody would start them anew or stop them."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


broker.add_middleware(Life())
