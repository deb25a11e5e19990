"""Step 3, kick: after the commit, one small message rings the flag's bell.

It may be lost, late or doubled: whoever hears it looks which rows are due. It
never raises into the caller, whose data is committed.
"""

from __future__ import annotations

import logging

import dramatiq

from models import PendingFlag
from models.committing import on_mark

from .handlers import handler_named
from .handling import drain
from .redis_broker import BELLS, broker

logger = logging.getLogger("pending")

_strangers: set[str] = set()


@dramatiq.actor(queue_name=BELLS, max_retries=0, time_limit=float("inf"))
def kick(label: str) -> None:
    """Drain the flag called `label`; a name that has no handler gets one warning."""
    handler = handler_named(label)
    if handler is None:
        if label not in _strangers:
            _strangers.add(label)
            logger.warning("kicked, but there is no handler flag=%s", label)
        return
    try:
        drain(handler, ring=ring)
    except Exception as error:  # noqa: BLE001 (a bell that raises is dead-lettered)
        logger.error("drain failed, the next look goes on flag=%s: %s", label, error)


@on_mark
def ring(flag: PendingFlag) -> bool:
    """Hang the bell of `flag`. Never raises; False if Redis fails."""
    return broker.ring(kick.message(flag.label))
