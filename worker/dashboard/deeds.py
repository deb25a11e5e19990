"""Deeds: what operators asked for, done in a thread that outlasts the request.

A million rows take minutes. If the process ends meanwhile, what was done stays done,
and the rest can be asked for again.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from models.steering import Progress

from ..failures import headline

logger = logging.getLogger("pending.operator")

_REMEMBERED = 200
_MOST_AT_ONCE = 4


class TooMany(Exception):
    """As many deeds are under way as may be."""


@dataclass(slots=True, eq=False)
class Deed:
    """Something that is done, or was.

    Attributes:
        what: in words, as in "retry": the verb and its past form.
        flag: the label of the flag that it concerns.
        rows: how many were changed so far.
        problem: why it ended before its end.
    """

    verb: str
    past: str
    flag: str
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    rows: int = 0
    problem: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
        return self.ended.is_set()


_deeds: dict[str, Deed] = {}
_lock = threading.Lock()


def begin(deed: Deed, work: Callable[[Progress], object]) -> None:
    """Do `work` in a thread; it tells `deed` of each few rows.

    Raises:
        TooMany: others are still under way.
    """
    with _lock:
        if sum(not one.is_over for one in _deeds.values()) >= _MOST_AT_ONCE:
            raise TooMany("others are still under way; wait for them")
        _deeds[deed.id] = deed
        for old in [*_deeds.values()][:-_REMEMBERED]:
            if old.is_over:
                del _deeds[old.id]
    threading.Thread(target=_run, args=(deed, work), name="deed", daemon=True).start()


def deed_named(id: str) -> Deed | None:
    """Return the deed; None: this process knows none of that name (any more)."""
    return _deeds.get(id)


def _run(deed: Deed, work: Callable[[Progress], object]) -> None:
    def progress(rows: int) -> None:
        deed.rows += rows

    try:
        work(progress)
    except Exception as error:  # noqa: BLE001 (told to who asked for it)
        deed.problem = headline(error)
        logger.warning(
            "ended early verb=%s flag=%s rows=%d: %s",
            *(deed.verb, deed.flag, deed.rows, deed.problem),
        )
    finally:
        deed.ended.set()
