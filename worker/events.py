"""What happens to a claimed row, one line an event, in the design's words.

Rows that are finished together share a line, which has `keys=1,2,3` for `key=1`.

claimed    a worker holds the row          debug; warning, if its last one died
finished   the work is done and the flag is cleared                     info
postponed  the handler raised RetryLater                                info
released   the attempt failed; due again later                          warning
lost       the lease ran out; whoever holds the row now decides         warning
parked     given up, until a person marks the row again                 error
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from enum import StrEnum

from models.claiming import Claim

logger = logging.getLogger("pending")


class Event(StrEnum):
    """How a claim ends: the word that starts the line, and what `drain` counts."""

    FINISHED = "finished"
    POSTPONED = "postponed"
    RELEASED = "released"
    LOST = "lost"
    PARKED = "parked"


_LEVELS = {
    Event.FINISHED: logging.INFO,
    Event.POSTPONED: logging.INFO,
    Event.RELEASED: logging.WARNING,
    Event.LOST: logging.WARNING,
    Event.PARKED: logging.ERROR,
}


def log(event: Event, claim: Claim, note: str) -> None:
    """Write the line of `event`: the word, the flag, the key, the attempt, a note."""
    words = " ".join(note.split())
    logger.log(
        _LEVELS[event], "%s %s attempt=%d %s", event, claim, claim.attempt, words
    )


def log_claimed(claims: Sequence[Claim]) -> None:
    """Write a line for each claim; those whose last one had no end are warnings."""
    for claim in claims:
        if claim.crashes:
            suspect = f"crashes={claim.crashes}"
            logger.warning("claimed %s attempt=%d %s", claim, claim.attempt, suspect)
        elif logger.isEnabledFor(logging.DEBUG):
            logger.debug("claimed %s attempt=%d", claim, claim.attempt)


def log_finished(claims: Sequence[Claim], seconds: float) -> None:
    """Write one line for claims of one flag that were finished together.

    Args:
        claims: not empty.
        seconds: that their handlers took, all in all.
    """
    first, ms = claims[0], f"ms={seconds * 1000:.0f}"
    if len(claims) == 1:
        log(Event.FINISHED, first, ms)
    elif logger.isEnabledFor(logging.INFO):
        keys = ",".join([claim.name for claim in claims])
        line = "finished flag=%s rows=%d keys=%s %s"
        logger.info(line, first.flag.label, len(claims), keys, ms)
