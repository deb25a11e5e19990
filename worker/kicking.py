"""Step 3, kick: after the commit, one small message rings the flag's bell.

It may be lost, late or doubled: whoever hears it looks which rows are due. It
never raises into the caller, whose data is committed.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time

import dramatiq

from models import PendingFlag
from models.committing import on_mark
from models.loops import in_event_loop

from .brokers import bells
from .choosing import BELLS, bells_of, is_own, kick_name, own_handlers
from .failures import headline, remedy
from .handlers import all_handlers, handler_named
from .handling import drain
from .reporting import others
from .resting import look_again, rests
from .settings import settings

logger = logging.getLogger("pending")

_MOMENT_SECONDS = 0.01

_strangers: set[str] = set()


@dramatiq.actor(broker=bells, queue_name=BELLS, max_retries=0, time_limit=float("inf"))
def kick(label: str) -> None:
    """Drain the flag called `label`; a name that has no handler gets one warning."""
    handler = handler_named(label)
    if handler is None:
        if label not in _strangers:
            _strangers.add(label)
            logger.warning(
                "kicked, but there is no handler here: was this worker started before"
                " it was written, does it lack a module, or share REDIS_NAMESPACE with"
                " another application? flag=%s",
                label,
            )
        return
    if not is_own(handler.flag):  # it has changed its queue since
        return
    try:
        later = None if bells.are_in_memory else _kick_later
        drain(handler, ring=_ring_or_look, later=later)
    except Exception as error:  # noqa: BLE001 (a bell that raises is dead-lettered)
        problem = headline(error) + remedy(error)
        logger.error("drain failed, the next look goes on flag=%s: %s", label, problem)


def bell_of(flag: PendingFlag, *, queue: str | None = None) -> dramatiq.Message[None]:
    """Return the message that lets a worker drain `flag`.

    Args:
        queue: where it is to hang; default: where the flag's bells do.
    """
    where = queue or bells_of(flag)
    return dramatiq.Message(where, kick_name(flag), (flag.label,), {}, {})


def hearing() -> list[str]:
    """Make ready to hear the kicks of all flags that have handlers.

    Returns:
        The queues of the bells of those whose work is this process's.
    """
    flags = {kick_name(handler.flag): handler.flag for handler in all_handlers()}
    for name in flags.keys() - bells.actors.keys():
        declare = dramatiq.actor(
            broker=bells,
            queue_name=BELLS,
            actor_name=name,
            priority=flags[name].priority,
            **kick.options,
        )
        declare(kick.fn)
    return sorted({bells_of(handler.flag) for handler in own_handlers()})


def ring(flag: PendingFlag) -> bool:
    """Hang the bell of `flag`. Never raises; False if its place fails."""
    return bells.ring(bell_of(flag))


@on_mark
def ring_after_commit(flag: PendingFlag) -> None:
    """Hang the bell of `flag`, once a moment. Never raises.

    What was rung a moment ago is rung again at the moment's end, for all who rang
    meanwhile: a loop that marks row by row does not wait each time. An event loop never
    does: there another thread rings.
    """
    if settings.kicks:
        others.start()
    if bells.are_wanted:
        _moments.ring(flag)


class _Moments:
    """Until when bells were rung a moment ago, and when which are owed."""

    def __init__(self) -> None:
        self._over: dict[str, float] = {}
        self._owed: dict[str, tuple[float, PendingFlag]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def ring(self, flag: PendingFlag) -> None:
        with self._changed:
            now, label = time.monotonic(), flag.label
            if label in self._owed:
                return
            over = self._over.get(label, 0)
            if now < over or in_event_loop():
                self._owe(label, flag, max(now, over))
                return
            self._over[label] = now + _MOMENT_SECONDS
        ring(flag)

    def pay(self, *, until: float = math.inf) -> None:
        """Ring what is owed until then (monotonic)."""
        with self._changed:
            due = [label for label, (when, _) in self._owed.items() if when <= until]
            self._over |= dict.fromkeys(due, time.monotonic() + _MOMENT_SECONDS)
            owed = [self._owed.pop(label)[1] for label in due]
        for flag in owed:
            ring(flag)

    def _owe(self, label: str, flag: PendingFlag, due: float) -> None:
        self._owed[label] = due, flag
        self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._pay, name="bells", daemon=True)
            self._thread.start()

    def _pay(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._owed)
                first = min(due for due, _ in self._owed.values())
            time.sleep(max(0, first - time.monotonic()))
            self.pay(until=time.monotonic())


def _pay() -> None:
    _moments.pay()
    bells.settle()


def _begin_anew() -> None:
    """A child has none of its parent's threads."""
    global _moments  # noqa: PLW0603
    _moments = _Moments()


def _ring_or_look(flag: PendingFlag) -> bool:
    if not ring(flag):
        look_again.set()
    return True


def _kick_later(flag: PendingFlag) -> None:
    """Have this process kick `flag` itself: it need not wait for Redis, and other
    processes are at work already."""
    rests.begin(flag, seconds=0)


_moments = _Moments()
atexit.register(_pay)
os.register_at_fork(after_in_child=_begin_anew)
