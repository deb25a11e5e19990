"""Instants: aware datetimes outside, milliseconds since the epoch in the columns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MS


def instant(ms: int) -> datetime:
    """Return the instant, UTC; the last one there is for what comes after it."""
    return _EPOCH + max(0, min(ms, _LAST)) * _MS


def milliseconds(moment: datetime) -> int:
    """Return the ms since the epoch of an aware instant.

    Raises:
        ValueError: it has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"it has no time zone: {moment}")
    return round((moment - _EPOCH) / _MS)
