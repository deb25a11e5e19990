"""Pauses: flags of which no row is claimed until somebody resumes them.

Kept in the database, so that they hold for every worker, also for those that are
started later. Rows in hand are finished.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from . import operations
from .instants import instant, milliseconds
from .operations import ALL, Pause, inserted, upsert

__all__ = ["ALL", "Paused", "pause", "pauses", "resume"]


@dataclass(frozen=True, slots=True)
class Paused:
    """A pause in force.

    Attributes:
        flag: a label, or `ALL`.
        until: its end by itself, aware; None: until it is resumed.
    """

    flag: str
    until: datetime | None
    reason: str
    by: str
    at: datetime


def pause(
    label: str, *, until: datetime | None = None, reason: str = "", by: str = ""
) -> None:
    """Let no row of the flag `label` (or `ALL`) be claimed; a pause that is there
    already is replaced.

    Args:
        until: aware; None: until it is resumed.

    Raises:
        ValueError: `until` has no time zone.
        peewee.PeeweeException: it could not be written; `pending migrate` was not run?
    """
    fields = (Pause.until, Pause.reason, Pause.by, Pause.at)
    row = {
        Pause.flag: label,
        Pause.until: None if until is None else milliseconds(until),
        Pause.reason: reason,
        Pause.by: by[:255],
        Pause.at: operations.now(),
    }
    upsert(Pause, [row], {field: inserted(field) for field in fields})


def resume(label: str) -> bool:
    """End the pause of `label`, or of `ALL` (and of `ALL` alone).

    Returns:
        True, or False if there was none in force.
    """
    in_force = any(one.flag == label for one in pauses())
    Pause.delete().where(Pause.flag == label).execute()
    return in_force


def pauses() -> list[Paused]:
    """Return the pauses in force, in the order of their labels."""
    now = operations.dialect().now
    query = Pause.select().where(Pause.until.is_null() | (Pause.until > now))
    return [
        Paused(
            row.flag,
            None if row.until is None else instant(row.until),
            row.reason,
            row.by,
            instant(row.at),
        )
        for row in query.order_by(Pause.flag)
    ]
