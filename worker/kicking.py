"""Step 3, kick: after the commit, one small message rings the flag's bell.

It may be lost, late or doubled: whoever hears it looks which rows are due. It
never raises into the caller, whose data is committed.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time

import dramatiq

from models import PendingFlag
from models.committing import on_mark

from .failures import headline
from .handlers import handler_named
from .handling import drain
from .redis_broker import BELLS, broker
from .reporting import others

logger = logging.getLogger("pending")

#: Set when there is more to do and Redis takes no bell: the process's own watch
#: looks at once.
look_again = threading.Event()

_MOMENT_SECONDS = 0.01

_strangers: set[str] = set()


@dramatiq.actor(queue_name=BELLS, max_retries=0, time_limit=float("inf"))
def kick(label: str) -> None:
    """Drain the flag called `label`; a name that has no handler gets one warning."""
    handler = handler_named(label)
    if handler is None:
        if label not in _strangers:
            _strangers.add(label)
            logger.warning(
                "kicked, but there is no handler here: does this worker lack a module,"
                " or share REDIS_NAMESPACE with another application? flag=%s",
                label,
            )
        return
    try:
        drain(handler, ring=_ring_or_look)
    except Exception as error:  # noqa: BLE001 (a bell that raises is dead-lettered)
        problem = headline(error)
        logger.error("drain failed, the next look goes on flag=%s: %s", label, problem)


def ring(flag: PendingFlag) -> bool:
    """Hang the bell of `flag`. Never raises; False if Redis fails."""
    return _ring(flag.label)


@on_mark
def ring_after_commit(flag: PendingFlag) -> None:
    """Hang the bell of `flag`, once a moment. Never raises.

    What was rung a moment ago is rung again at the moment's end, for all who rang
    meanwhile: a loop that marks row by row does not wait for Redis each time.
    """
    others.start()
    _moments.ring(flag.label)


class _Moments:
    """Which bells were rung a moment ago, and which are owed at its end."""

    def __init__(self) -> None:
        self._over: dict[str, float] = {}
        self._owed: set[str] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def ring(self, label: str) -> None:
        with self._changed:
            now = time.monotonic()
            if label in self._owed or now < self._over.get(label, 0):
                self._owe(label)
                return
            self._over[label] = now + _MOMENT_SECONDS
        _ring(label)

    def pay(self) -> None:
        """Ring what is owed."""
        with self._changed:
            owed, self._owed = self._owed, set()
            over = time.monotonic() + _MOMENT_SECONDS
            self._over |= dict.fromkeys(owed, over)
        for label in owed:
            _ring(label)

    def _owe(self, label: str) -> None:
        if label in self._owed:
            return
        self._owed.add(label)
        self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._pay, name="bells", daemon=True)
            self._thread.start()

    def _pay(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._owed)
            time.sleep(_MOMENT_SECONDS)
            self.pay()


def _ring(label: str) -> bool:
    return broker.ring(kick.message(label))


def _pay() -> None:
    _moments.pay()


def _begin_anew() -> None:
    """A child has none of its parent's threads."""
    global _moments  # noqa: PLW0603
    _moments = _Moments()


def _ring_or_look(flag: PendingFlag) -> bool:
    if not ring(flag):
        look_again.set()
    return True


_moments = _Moments()
atexit.register(_pay)
os.register_at_fork(after_in_child=_begin_anew)
