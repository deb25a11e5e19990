"""What a process tells the database of itself: heartbeats, numbers, samples.

One thread a process, apart from those that do the work: whatever fails or hangs here,
no drain waits for it. A heartbeat carries when the watch last looked and when a row
was last claimed or ended; so a process whose threads are stuck is told from one that
has nothing to do.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

from models import PendingFlag, heartbeats
from models import tallies as kept
from models.connection import connected
from models.counting import Numbers, numbers
from models.heartbeats import Beat
from models.operations import missing_tables, the_database
from models.states import State

from .choosing import own_handlers
from .failures import headline
from .handlers import all_handlers
from .leasing import leases
from .patience import Patience
from .pausing import pauses
from .tallying import pulse, tallies

logger = logging.getLogger("pending")

_READ_SECONDS = 1  # pauses
_BEAT_SECONDS = 5  # heartbeats and numbers
_SAMPLE_SECONDS = 20  # so that no minute is left out
_PRUNE_SECONDS = 600
_ABSENT_SECONDS = 15  # between two tries without the tables, or the database
_ENDING_SECONDS = 2

_patience = Patience[Numbers](seconds=1)  # for a table that may be locked

#: Tests switch it off: then no thread is started.
enabled = True


class Reporter:
    """Tells the database of this process, for as long as it lives.

    Args:
        kind: "worker", or "other" for a process that only kicks: it has no heartbeat.
        threads: how many handle rows.
    """

    def __init__(self, kind: str, *, threads: int = 0) -> None:
        self.kind, self.threads = kind, threads
        self.id = uuid4().hex
        self._began = time.monotonic()
        self._end = threading.Event()
        self._trouble = ""
        self._next: dict[Callable[[], object], float] = {}

    def start(self) -> None:
        """Begin to report. Pauses are known when it returns, if they can be read."""
        if self.kind == "worker":
            self._try(pauses.read)
            pauses.watched = True
            others.reporter = self
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Write down what is left, and leave; within 2 s, or not at all."""
        self._end.set()
        last = threading.Thread(target=self._leave, name="last-report", daemon=True)
        last.start()
        last.join(_ENDING_SECONDS)

    def _run(self) -> None:
        while not self._end.wait(_READ_SECONDS):
            wait = 0 if self._try(self.report) else _ABSENT_SECONDS
            self._end.wait(wait * random.uniform(0.8, 1.2))

    def report(self) -> None:
        """Do what is due of the process's reports.

        Raises:
            peewee.PeeweeException: the database failed; nothing is lost but time.
        """
        with connected(the_database()):
            for step, seconds in self._steps():
                if time.monotonic() >= self._next.get(step, 0):
                    step()
                    self._next[step] = time.monotonic() + seconds

    def _steps(self) -> list[tuple[Callable[[], object], float]]:
        if self.kind != "worker":
            return [(write_tallies, _BEAT_SECONDS)]
        return [
            (pauses.read, _READ_SECONDS),
            (self._beat, _BEAT_SECONDS),
            (write_tallies, _BEAT_SECONDS),
            (write_samples, _SAMPLE_SECONDS),
            (prune, _PRUNE_SECONDS * random.uniform(0.5, 1)),
        ]

    def _try(self, step: Callable[[], object]) -> bool:
        """Say whether `step` went well; what was wrong is one line, the first time."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 (the work goes on without it)
            self._complain(error)
            return False
        if self._trouble:
            self._trouble = ""
            logger.info("reports go on")
        return True

    def _complain(self, error: Exception) -> None:
        absent = _absent()
        trouble = absent or headline(error)
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if absent:
            logger.info(
                "reports not kept, `pending migrate` adds pauses, heartbeats and"
                " numbers tables=%s",
                absent,
            )
        else:
            logger.warning("reports fail, the work goes on: %s", trouble)

    def _beat(self) -> None:
        held = dict.fromkeys((one.flag.label for one in own_handlers()), 0)
        for claim in leases.held():
            held[claim.flag.label] = held.get(claim.flag.label, 0) + 1
        now = time.monotonic()
        beat = Beat(
            id=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            kind=self.kind,
            threads=self.threads,
            age=timedelta(seconds=now - self._began),
            looked=_ago(now, pulse.looked),
            drained=_ago(now, pulse.drained),
            held=held,
        )
        heartbeats.beat(beat)

    def _leave(self) -> None:
        try:
            with connected(the_database()):
                write_tallies()
                if self.kind == "worker":
                    heartbeats.leave(self.id)
        except Exception as error:  # noqa: BLE001 (the process ends anyway)
            logger.debug("the last report failed: %s", error)


def write_tallies() -> None:
    """Add this process's numbers to the database's; kept, if that fails.

    Raises:
        peewee.PeeweeException: the database failed.
    """
    swept, pulse.swept = pulse.swept, None
    taken = tallies.take()
    try:
        if swept is not None:
            kept.note_sweep(age=timedelta(seconds=time.monotonic() - swept))
        kept.add(taken)
    except Exception:
        pulse.swept = pulse.swept or swept
        tallies.put_back(taken)
        raise


def write_samples() -> None:
    """Note how each flag stands, if nobody else has in this minute. One whose table
    cannot be read is passed over."""
    for handler in all_handlers():
        if not kept.sampled(handler.flag.label):
            found = _numbers(handler.flag)
            if found is not None:
                kept.add_sample(handler.flag.label, sample(found))


def sample(found: Numbers) -> dict[str, int]:
    """Return what is noted of a flag each minute."""
    amounts = {s.value: found.of(s).n for s in State if s is not State.IDLE}
    oldest = found.oldest or timedelta(0)
    return {**amounts, "oldest_ms": round(oldest / timedelta(milliseconds=1))}


def prune() -> None:
    """Delete what is too old to be of use."""
    kept.prune()
    heartbeats.forget()


def _numbers(flag: PendingFlag) -> Numbers | None:
    def ask() -> Numbers:
        with connected(flag.database):
            return numbers(flag)

    try:
        return _patience.ask(flag, ask)
    except Exception as error:  # noqa: BLE001 (the sweep complains of it)
        logger.debug("not sampled flag=%s: %s", flag.label, error)
        return None


def _absent() -> str:
    try:
        with connected(the_database()):
            return ", ".join(missing_tables())
    except Exception:  # noqa: BLE001 (then the tables are not what is wrong)
        return ""


def _ago(now: float, moment: float | None) -> timedelta | None:
    return None if moment is None else timedelta(seconds=max(0.0, now - moment))


class _Others:
    """The reporter of a process that is no worker; it starts with its first kick."""

    def __init__(self) -> None:
        self.reporter: Reporter | None = None

    def start(self) -> None:
        if self.reporter is None and enabled:
            self.reporter = Reporter("other")
            self.reporter.start()

    def forget(self) -> None:
        """A child of a fork has the memory, but no threads."""
        self.reporter = None


others = _Others()
os.register_at_fork(after_in_child=others.forget)
