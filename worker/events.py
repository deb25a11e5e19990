"""What happens to a claimed row, one line an event, in the design's words.

claimed    a worker holds the row          debug; warning, if its last one died
finished   the work is done and the flag is cleared                     info
postponed  the handler raised RetryLater                                info
released   the attempt failed; due again later                          warning
lost       the lease ran out; whoever holds the row now decides         warning
parked     given up, until a person marks the row again                 error
"""

from __future__ import annotations

import logging
from enum import StrEnum

from models.claiming import Claim

from .observing import observe

logger = logging.getLogger("pending")


class Event(StrEnum):
    """The word that starts the line, and what `drain` counts."""

    CLAIMED = "claimed"
    FINISHED = "finished"
    POSTPONED = "postponed"
    RELEASED = "released"
    LOST = "lost"
    PARKED = "parked"


_LEVELS = {
    Event.CLAIMED: logging.DEBUG,
    Event.FINISHED: logging.INFO,
    Event.POSTPONED: logging.INFO,
    Event.RELEASED: logging.WARNING,
    Event.LOST: logging.WARNING,
    Event.PARKED: logging.ERROR,
}


def log(event: Event, claim: Claim, note: str = "") -> None:
    """Write the line of `event`: the word, the flag, the key, the attempt, a note."""
    suspect = event is Event.CLAIMED and claim.crashes
    logger.log(
        logging.WARNING if suspect else _LEVELS[event],
        "%s %s attempt=%d%s",
        event,
        claim,
        claim.attempt,
        note and f" {' '.join(note.split())}",
    )
    observe(event, claim, note)
