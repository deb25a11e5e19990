"""Step 3 by cron, sweep: ring for every flag that has work due.

The message is age-limited: what waited longer than `sweep_expires` is dropped
unheard. Workers that were down for a day drop a day of sweeps and run one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import dramatiq

from models import PendingFlag
from models.claiming import is_due
from models.connection import borrowed

from .brokers import bells
from .choosing import SWEEPS
from .failures import headline, remedy
from .handlers import Handler, all_handlers
from .kicking import ring
from .patience import Patience
from .pausing import is_paused
from .resting import rests
from .settings import settings
from .tallying import ALL, pulse, tallies

logger = logging.getLogger("pending")

_troubled: dict[str, str] = {}
_patience = Patience[bool](seconds=1)

_SILENT = "no answer within a second; has somebody locked the table?"


@dramatiq.actor(
    broker=bells,
    queue_name=SWEEPS,
    max_retries=0,
    time_limit=float("inf"),
    max_age=round(settings.sweep_expires.total_seconds() * 1000),
    periodic=settings.sweep_cron,
)
def sweep() -> None:
    """Ring for each flag that has a handler here and work due."""
    pulse.swept = time.monotonic()
    tallies.add(ALL, ("swept", 1))
    due = due_flags()
    for flag in due:
        ring(flag)
    names = ",".join(flag.label for flag in due)
    logger.info("swept flags=%d due=%s", len(all_handlers()), names or "none")


def due_flags(handlers: Sequence[Handler] | None = None) -> list[PendingFlag]:
    """Return the flags of `handlers` (default: of all) that have work due, the most
    urgent first; one cheap probe a flag.

    One that is paused is passed over, and one that waits for its rate; one whose table
    cannot be read, too, with one line in the log.
    """
    known = all_handlers() if handlers is None else handlers
    flags = sorted((one.flag for one in known), key=lambda flag: flag.priority)
    return [
        flag
        for flag in flags
        if not is_paused(flag) and not rests.hold(flag) and _probe(flag)
    ]


def _probe(flag: PendingFlag) -> bool:
    def ask() -> bool:
        with borrowed(flag.database):
            return is_due(flag)

    try:
        # A connection that this thread has may be in a transaction: ask in that.
        is_here = not flag.database.is_closed()
        due = ask() if is_here else _patience.ask(flag, ask)
    except Exception as error:  # noqa: BLE001 (the other flags go on)
        is_silent = isinstance(error, TimeoutError)
        problem = _SILENT if is_silent else headline(error) + remedy(error)
        if _troubled.get(flag.label) != problem:
            logger.error("cannot look for due rows flag=%s: %s", flag.label, problem)
        _troubled[flag.label] = problem
        return False
    if _troubled.pop(flag.label, None):
        logger.info("looking for due rows again flag=%s", flag.label)
    return due
