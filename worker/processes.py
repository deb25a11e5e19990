"""The life of a worker process, as dramatiq's middleware sees it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress
from multiprocessing.util import Finalize
from typing import Any

import peewee
from dramatiq import Middleware

from models import BadSetting, database
from models.connection import connected
from models.finishing import give_back

from .handlers import all_handlers
from .hands import finish_what_is_done, stopping
from .hooks import told
from .leasing import leases
from .logs import use_json
from .redis_broker import broker
from .reporting import Reporter
from .watching import WATCH

_ECHO_SECONDS = 2
_TELLING_SECONDS = 2  # for hooks that have not heard of every failure
_ENDING_SECONDS = 5  # by then a SIGTERM is heard, and what was claimed is held

# dramatiq's main process waits half a minute, or for ever, for a child that dies
# before it has said that it is up: until it surely has, no row is handled.
_booted = threading.Event()
_BOOT_SECONDS = 0.2


class Life(Middleware):
    """Starts, ends, and does not outlive its parent."""

    def after_process_boot(self, broker: Any) -> None:
        _hear_sigterm_once()
        # multiprocessing's own: its children do not run atexit's before 3.13.
        Finalize(None, _give_back, exitpriority=0)
        threading.Thread(target=_end_after, args=(_parent(),), daemon=True).start()

    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        for known in {database, *(handler.flag.database for handler in all_handlers())}:
            reach(known)
        # What is fetched beyond the threads waits behind their handlers, while
        # another process may be idle.
        worker.queue_prefetch = worker.worker_threads
        if worker.consumer_whitelist:
            worker.consumer_whitelist.add(WATCH)
        self._reporter = Reporter("worker", threads=worker.worker_threads)
        self._reporter.start()

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        threading.Timer(_BOOT_SECONDS, _booted.set).start()

    def before_process_message(self, broker: Any, message: Any) -> None:
        _booted.wait()

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        stopping.set()

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
        told(seconds=_TELLING_SECONDS)
        self._reporter.end()


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


def _parent() -> int:
    """Return the id of the process whose end is ours."""
    main = multiprocessing.parent_process()
    if main is None or main.pid is None or multiprocessing.get_start_method() != "fork":
        return os.getppid()  # a fork server ends with the main process
    return main.pid  # which may be gone by now, and getppid() somebody else's


def _end_after(parent: int) -> None:
    """End once `parent` is gone. A main process that was killed leaves its children
    at work, and nobody would start them anew or stop them."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    if stopping.wait(_ENDING_SECONDS):
        return
    # dramatiq's child tells the main process that it is up, and if that was killed
    # while it waited to hear it, the telling (multiprocessing's Event) never ends.
    stopping.set()
    time.sleep(_ENDING_SECONDS)
    while leases.held():
        time.sleep(1)
    os._exit(1)


def _hear_sigterm_once() -> None:
    """A SIGTERM to the whole group reaches a child twice, as the main process passes
    it on, and dramatiq takes the second one as "now"."""
    first: list[float] = []
    end = signal.getsignal(signal.SIGTERM)

    def hear(signum: int, frame: Any) -> None:
        if not first or time.monotonic() - first[0] > _ECHO_SECONDS:
            first.append(time.monotonic())
            if callable(end):
                end(signum, frame)

    if callable(end):
        signal.signal(signal.SIGTERM, hear)


def _give_back() -> None:
    """Whoever is told to end at once gives its rows back first: that is no crash."""
    finish_what_is_done()
    for claim in leases.held():
        with suppress(Exception), connected(claim.flag.database):
            give_back(claim)


broker.add_middleware(Life())
use_json()  # of a worker or a clock, whose log was set up before this is imported
