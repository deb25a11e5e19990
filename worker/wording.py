"""Values in words, for people and for JSON; the same in commands and pages.

Whatever comes from the database is untrusted: `plain` lets no character of it drive
a terminal or break a line.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from models.finding import printable

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def plain(text: object, *, most: int | None = None) -> str:
    """Return `text` as one line of printable characters, cut if longer than `most`."""
    shown = printable(str(text))
    return shown if most is None or len(shown) <= most else f"{shown[: most - 1]}…"


def paragraph(text: str) -> str:
    """Return `text` with its lines, and nothing else that drives a terminal."""
    return "\n".join(plain(line) for line in text.splitlines())


def span(length: timedelta | None) -> str:
    """Return a length of time in at most two units: `1 h 5 min`, `350 ms`."""
    if length is None:
        return "–"
    seconds = length.total_seconds()
    if abs(seconds) < 1:
        return f"{seconds * 1000:.0f} ms"
    if abs(seconds) < 10:  # noqa: PLR2004 (a digit more)
        return f"{seconds:.1f} s"
    if abs(seconds) < 60:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    for index, (unit, size) in enumerate(_UNITS):
        if abs(seconds) >= size:
            whole, rest = divmod(round(abs(seconds)), size)
            name, smaller = ("s", 1) if unit == "min" else _UNITS[index + 1]
            parts = [f"{whole} {unit}"]
            if rest // smaller:
                parts.append(f"{rest // smaller} {name}")
            return ("-" if seconds < 0 else "") + " ".join(parts)
    raise AssertionError


def jsonable(value: Any) -> Any:
    """Return what JSON has no form for: instants in ISO 8601, lengths in seconds."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    return str(value)


def rate(number: float) -> str:
    """Return a number of things a minute, in three digits or more."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"  # noqa: PLR2004
