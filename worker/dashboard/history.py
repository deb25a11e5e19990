"""The last hours of each flag, kept here and brought up to date with what is new.

A minute that is over does not change: only the last few are read again.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from models.connection import connected
from models.operations import the_database
from models.tallies import Minute, minutes

SPAN = timedelta(hours=3)

_STILL_WRITTEN = timedelta(minutes=2)  # workers write every few seconds

_known: dict[str, list[Minute]] = {}


def history(labels: list[str], *, now: datetime) -> dict[str, list[Minute]]:
    """Return the minutes of each of `labels` since `SPAN` before `now`, the oldest
    first; those in which nothing was noted are missing.

    Raises:
        peewee.PeeweeException: the tables of operating cannot be read.
    """
    with connected(the_database()):
        for label in labels:
            _known[label] = _updated(label, now)
    return {label: _known[label] for label in labels}


def _updated(label: str, now: datetime) -> list[Minute]:
    first = now - SPAN
    kept = [one for one in _known.get(label, []) if first <= one.start <= now]
    since = max(first, kept[-1].start - _STILL_WRITTEN) if kept else first
    new = minutes(label, since=since)
    begin = new[0].start if new else now
    return [*(one for one in kept if one.start < begin), *new]
