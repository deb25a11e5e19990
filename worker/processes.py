"""The life of a worker process, as dramatiq's middleware sees it."""

from __future__ import annotations

import logging
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

from models import BadSetting, DefinitionError
from models.connection import connected
from models.finding import flags
from models.finishing import give_back
from models.operations import the_database

from .booting import booted, hear_oneself
from .brokers import bells
from .brokers import broker as own_broker
from .choosing import SWEEPS, listen_to, own_handlers
from .failures import headline, remedy
from .handlers import all_handlers, handler_named
from .hands import finish_what_is_done, stopping
from .hooks import told
from .kicking import hearing
from .leasing import leases
from .listening import listen
from .loading import load_modules
from .logs import use_json
from .permitting import permits
from .reporting import Reporter
from .watching import WATCH, Watch

logger = logging.getLogger("pending")

_HEARD = (signal.SIGTERM, signal.SIGHUP)  # "end", and "end, to be started anew"
_ECHO_SECONDS = 2
_TELLING_SECONDS = 2  # for hooks that have not heard of every failure
_ENDING_SECONDS = 5  # by then a SIGTERM is heard, and what was claimed is held

# dramatiq's main process waits half a minute, or for ever, for a child that dies
# before it has said that it is up: until it surely has, no row is handled.
_BOOT_SECONDS = 0.2


class Life(Middleware):
    """Starts, ends, and does not outlive its parent."""

    def __init__(self) -> None:
        self._began = False
        self._reporter: Reporter | None = None

    def after_process_boot(self, broker: Any) -> None:
        use_json(from_scratch=True)
        self._began = True
        _hear_once()
        # multiprocessing's own: its children do not run atexit's before 3.13.
        Finalize(None, _give_back, exitpriority=0)
        threading.Thread(target=_end_after, args=(_parent(),), daemon=True).start()

    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        load_modules()
        if broker is not bells.broker:
            raise BadSetting(
                "the broker",
                f"the bells hang in your own {type(bells.broker).__name__}, and this"
                " worker hears another; start `dramatiq` with the module of your"
                " broker, and without `worker`",
            )
        if bells.are_in_memory:
            hearing()
            stopping.clear()  # a test's worker is one of many in its process
            return
        if not self._began and multiprocessing.parent_process():
            self.after_process_boot(broker)  # joined too late to hear of it
        self._begin(broker, worker)

    def _begin(self, broker: Any, worker: Any) -> None:
        _warn_of_lacking_handlers()
        handled = {handler.flag.database for handler in all_handlers()}
        for known in {the_database(), *handled}:
            reach(known)
        if broker is own_broker:
            # What is fetched beyond the threads waits behind their handlers, while
            # another process may be idle.
            worker.queue_prefetch = worker.worker_threads
        asked = worker.consumer_whitelist
        listen_to(asked or None)
        for queue in hearing():
            listen(worker, queue, bells.place.consume)
        if not asked or own_handlers() or broker is own_broker:
            listen(worker, SWEEPS, bells.place.consume)
            listen(worker, WATCH, Watch)
        self._reporter = Reporter("worker", threads=worker.worker_threads)
        self._reporter.start()

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        threading.Timer(_BOOT_SECONDS, booted.set).start()

    def before_process_message(self, broker: Any, message: Any) -> None:
        booted.wait()

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        stopping.set()

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
        told(seconds=_TELLING_SECONDS)
        if self._reporter:
            self._reporter.end()


def _warn_of_lacking_handlers() -> None:
    """Else a worker that was told of no module, or of the wrong one, sits idle."""
    lacking = [flag.label for flag in flags() if not handler_named(flag.label)]
    if lacking or not all_handlers():
        logger.warning(
            "no handler here flags=%s: name its module in PENDING_MODULES, or after"
            " `dramatiq worker`",
            ",".join(lacking) or "none",
        )


def reach(database: peewee.Database) -> None:
    """Connect to `database` once.

    Raises:
        BadSetting: it does not answer, or only an event loop can use it.
    """
    try:
        with connected(database):
            pass
    except DefinitionError as error:
        raise BadSetting("the database", str(error)) from None
    except (peewee.DatabaseError, peewee.InterfaceError) as error:
        reason = headline(error) + remedy(error)
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
    threading.Thread(target=hear_oneself, daemon=True).start()
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


def _hear_once() -> None:
    """A signal to the whole group reaches a child twice, as the main process passes
    it on, and dramatiq takes the second one as "now". Further ones must not disturb
    whoever gives its rows back."""
    first: list[float] = []
    end = signal.getsignal(signal.SIGTERM)

    def hear(signum: int, frame: Any) -> None:
        if first and time.monotonic() - first[0] < _ECHO_SECONDS:
            return
        if first:
            for heard in _HEARD:
                signal.signal(heard, signal.SIG_IGN)
        first.append(time.monotonic())
        if callable(end):
            end(signum, frame)

    if callable(end):
        for heard in _HEARD:
            signal.signal(heard, hear)


def _give_back() -> None:
    """Whoever is told to end at once gives its rows back first: that is no crash."""
    finish_what_is_done()
    for claim in leases.held():
        with suppress(Exception), connected(claim.flag.database):
            give_back(claim)
    permits.end_all()


use_json()  # of a worker or a clock, whose log was set up before this is imported
