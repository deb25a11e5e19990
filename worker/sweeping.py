"""Step 3 by cron, sweep: ring for every flag that has work due.

The message is age-limited: what waited longer than `sweep_expires` is dropped
unheard. Workers that were down for a day drop a day of sweeps and run one.
"""

from __future__ import annotations

import logging
import time

import dramatiq

from models import PendingFlag
from models.claiming import is_due
from models.connection import connected

from .failures import headline, is_missing_table
from .handlers import all_handlers
from .kicking import ring
from .pausing import is_paused
from .redis_broker import BELLS
from .settings import settings
from .tallying import ALL, pulse, tallies

logger = logging.getLogger("pending")

_troubled: dict[str, str] = {}


@dramatiq.actor(
    queue_name=BELLS,
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


def due_flags() -> list[PendingFlag]:
    """Return the flags that have a handler and work due; one cheap probe a flag.

    One that is paused is passed over; one whose table cannot be read, too, with one
    line in the log.
    """
    flags = [handler.flag for handler in all_handlers()]
    return [flag for flag in flags if not is_paused(flag) and _probe(flag)]


def _probe(flag: PendingFlag) -> bool:
    try:
        with connected(flag.database):
            due = is_due(flag)
    except Exception as error:  # noqa: BLE001 (the other flags go on)
        problem = headline(error)
        if is_missing_table(error):
            problem += "; run `pending migrate`, or create_table() of your own models"
        if _troubled.get(flag.label) != problem:
            logger.error("cannot look for due rows flag=%s: %s", flag.label, problem)
        _troubled[flag.label] = problem
        return False
    if _troubled.pop(flag.label, None):
        logger.info("looking for due rows again flag=%s", flag.label)
    return due
