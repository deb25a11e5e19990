"""The text of a failure, fit for a database column and a log line.

Whatever a handler raises must not keep the failure itself from being recorded: no
driver stores NUL or lone surrogates, MariaDB's TEXT ends at 64 kB, and an
exception's own `__str__` may raise.
"""

from __future__ import annotations

import re
import sysconfig
import traceback
from pathlib import Path

from .hooks import redacted

_MOST_CHARACTERS = 4_000
_MOST_CALLERS = 4
_MACHINERY = str(Path(__file__).parent)
#: How SQLite, PostgreSQL and MySQL say that they know no such column; or table.
_COLUMN = r"no such column|has no column|column .* does not exist|Unknown column"
_TABLE = r"no such table|relation .* does not exist|Table .* doesn't exist"
#: And how their drivers say that there is no connection.
_CONNECTION = (
    r"^connection |could not connect|failed to resolve|connection attempts failed"
    r"|Can't connect|Access denied|Unknown database|unable to open|-migrating'"
)
_LIBRARIES = tuple({sysconfig.get_path(n) for n in ("stdlib", "purelib", "platlib")})


def describe(error: BaseException) -> str:
    """Return the type, message and place of `error`, at most 4,000 characters.

    The place is the last line that ran outside of libraries, if there is one; those
    that called it follow, a line each. No values of variables. What the application
    wants redacted is.
    """
    try:
        text = "".join(traceback.format_exception_only(error)).strip()
    except Exception:  # noqa: BLE001 (its __str__ may raise anything)
        text = f"{type(error).__name__}: <its message cannot be read>"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith(_LIBRARIES)]
    last = (own or frames)[-1:]
    callers = [f for f in own[:-1] if not f.filename.startswith(_MACHINERY)]
    place = "".join(f" ({_at(f)})" for f in last)
    place += "".join(
        f"\n  called at {_at(f)}" for f in reversed(callers[-_MOST_CALLERS:])
    )
    place = _plain(place, _MOST_CHARACTERS // 2)
    return clean(text, most=_MOST_CHARACTERS - len(place)) + redacted(place)


def _at(frame: traceback.FrameSummary) -> str:
    return f"{frame.filename}:{frame.lineno} in {frame.name}"


def headline(error: BaseException) -> str:
    """Return the first line of what `error` says, or its type if it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def is_missing_table(error: BaseException) -> bool:
    """Say whether the database knows no such table: SQLite, PostgreSQL, MySQL."""
    text = str(error)
    return bool(re.search(_TABLE, text)) and not re.search(_COLUMN, text)


def remedy(error: BaseException) -> str:
    """Return what to do about what a database says, as the end of a sentence; nothing
    if that is not known."""
    if is_missing_table(error):
        return "; run `pending migrate`, or create_table() of your own models"
    if re.search(_COLUMN, str(error)):
        return "; `pending doctor` names the columns that are missing"
    if re.search(_CONNECTION, str(error)):
        return "; is it up, and named right in DATABASE_URL or your database object?"
    return ""


def clean(text: str, *, most: int = _MOST_CHARACTERS) -> str:
    """Return `text` as the application wants it redacted, without what databases
    refuse, and its middle cut out if it is too long."""
    return _plain(redacted(_cut(text, 4 * most)), most)


def _plain(text: str, most: int) -> str:
    plain = _cut(text, most).encode("utf-8", "backslashreplace").decode("utf-8")
    return _cut(plain.replace("\0", "\\0"), most)  # escapes are longer


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    half = max(most // 2 - 3, 0)
    return f"{text[:half]} […] {text[len(text) - half :]}"
