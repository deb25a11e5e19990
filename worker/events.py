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

from .logs import EVENT_LINE
from .observing import observe, observe_claims

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


def log(event: Event, claim: Claim, seconds: float, note: str = "") -> None:
    """Write the line of an end: the word, the flag, the key, the attempt, a note.

    Args:
        seconds: that the handler took; the note, if there is no other.
    """
    words = " ".join(note.split()) or f"ms={seconds * 1000:.0f}"
    logger.log(_LEVELS[event], EVENT_LINE, event, claim, claim.attempt, f" {words}")
    observe(event, [claim], seconds, words)


def log_claimed(claims: Sequence[Claim]) -> None:
    """Write a line for each claim; those whose last one had no end are warnings."""
    for claim in claims:
        level = logging.WARNING if claim.crashes else logging.DEBUG
        if logger.isEnabledFor(level):
            note = f" crashes={claim.crashes}" if claim.crashes else ""
            logger.log(level, EVENT_LINE, "claimed", claim, claim.attempt, note)
    observe_claims(claims)


def log_finished(claims: Sequence[Claim], seconds: float) -> None:
    """Write one line for claims of one flag that were finished together.

    Args:
        claims: not empty.
        seconds: that their handlers took, all in all.
    """
    if len(claims) == 1:
        log(Event.FINISHED, claims[0], seconds)
        return
    if logger.isEnabledFor(logging.INFO):
        keys, label = ",".join([claim.name for claim in claims]), claims[0].flag.label
        line = "finished flag=%s rows=%d keys=%s ms=%d"
        logger.info(line, label, len(claims), keys, round(seconds * 1000))
    observe(Event.FINISHED, claims, seconds / len(claims))
