"""Step 3, kick: after the commit, one small message rings the flag's bell.

It may be lost, late or doubled: whoever hears it looks which rows are due. It
never raises into the caller, whose data is committed.
"""

from __future__ import annotations

import logging
import threading

import dramatiq

from models import PendingFlag
from models.committing import on_mark

from .failures import headline
from .handlers import handler_named
from .handling import drain
from .redis_broker import BELLS, broker
from .reporting import others

logger = logging.getLogger("pending")

#: Set when there is more to do and Redis takes no bell: the process's own watch
#: looks at once.
look_again = threading.Event()

_strangers: set[str] = set()


@dramatiq.actor(queue_name=BELLS, max_retries=0, time_limit=float("inf"))
def kick(label: str) -> None:
    """Drain the flag called `label`; a name that has no handler gets one warning."""
    handler = handler_named(label)
    if handler is None:
        if label not in _strangers:
            _strangers.add(label)
            logger.warning(
                "kicked, but there is no handler here: does this worker lack a module,"
                " or share REDIS_NAMESPACE with another application? flag=%s",
                label,
            )
        return
    try:
        drain(handler, ring=_ring_or_look)
    except Exception as error:  # noqa: BLE001 (a bell that raises is dead-lettered)
        problem = headline(error)
        logger.error("drain failed, the next look goes on flag=%s: %s", label, problem)


@on_mark
def ring(flag: PendingFlag) -> bool:
    """Hang the bell of `flag`. Never raises; False if Redis fails."""
    hangs = broker.ring(kick.message(flag.label))
    others.start()
    return hangs


def _ring_or_look(flag: PendingFlag) -> bool:
    if not ring(flag):
        look_again.set()
    return True
