"""Pauses, as the drains see them: asked before each claim, read once a second.

Where they cannot be read, what was last known holds.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime

from models import PendingFlag, pausing
from models.connection import borrowed
from models.operations import ALL, the_database

from .resting import look_again
from .wording import plain

__all__ = ["ALL", "Pauses", "is_paused", "pause", "pauses", "resume"]

logger = logging.getLogger("pending")
operator = logging.getLogger("pending.operator")

_FRESH_SECONDS = 1
_MISSING_SECONDS = 10  # how often it is asked for a table that was not there


class Pauses:
    """What is paused, as of the last time that it could be read."""

    def __init__(self) -> None:
        self._labels: frozenset[str] = frozenset()
        self._next = 0.0
        self._reading = threading.Lock()
        #: Somebody else reads, again and again: then no drain does.
        self.watched = False

    def hold(self, label: str) -> bool:
        """Say whether the flag called `label` is paused. Never raises."""
        if not self.watched and time.monotonic() >= self._next:
            self._read_once()
        return ALL in self._labels or label in self._labels

    def read(self) -> None:
        """Read the pauses now.

        Raises:
            peewee.PeeweeException: they cannot be read; what was known holds.
        """
        with borrowed(the_database()):
            labels = frozenset(one.flag for one in pausing.pauses())
        if self._labels - labels:
            look_again.set()  # rows have waited for that
        self._labels = labels
        self._next = time.monotonic() + _FRESH_SECONDS

    def forget(self) -> None:
        """Know of no pause, until the next time they are read."""
        self._labels, self._next = frozenset(), 0.0

    def _read_once(self) -> None:
        if not self._reading.acquire(blocking=False):
            return
        try:
            self.read()
        except Exception as error:  # noqa: BLE001 (whatever it is, the work goes on)
            self._next = time.monotonic() + _MISSING_SECONDS
            logger.debug("pauses cannot be read: %s", error)
        finally:
            self._reading.release()


pauses = Pauses()


def is_paused(flag: PendingFlag) -> bool:
    """Say whether no row of `flag` is to be claimed now. Never raises."""
    return pauses.hold(flag.label)


def pause(
    label: str, *, by: str, until: datetime | None = None, reason: str = ""
) -> None:
    """Let no worker claim rows of the flag called `label`, or of any for `ALL`, from
    a second or two from now on. Rows in hand are finished.

    Args:
        by: who wants it.
        until: aware; None: until it is resumed.
    """
    pausing.pause(label, until=until, reason=reason, by=by)
    operator.info(
        "paused flag=%s by=%s until=%s reason=%s",
        *(label, plain(by), until.isoformat() if until else "resumed"),
        plain(reason) or "none",
    )


def resume(label: str, *, by: str) -> bool:
    """End the pause of `label`, or of `ALL`.

    Returns:
        True, or False if there was none in force.
    """
    resumed = pausing.resume(label)
    if resumed:
        operator.info("resumed flag=%s by=%s", label, plain(by))
    return resumed
