"""Queues: where the bells of a flag hang, and which ones this process listens to.

`dramatiq worker -Q mails` does the work of that queue's flags, and of no others.
"""

from __future__ import annotations

from collections.abc import Iterable

from models import PendingFlag
from models.flags import QUEUE

from .handlers import Handler, all_handlers

#: The queue of the bells of all flags that name no other one.
BELLS = QUEUE

#: The queue of sweeps, to which each worker listens, whatever queues it is given.
SWEEPS = "pending.sweeps"

_SUFFIX = ".bells"  # the application's own actors may have a queue of that name, too

_queues: frozenset[str] | None = None


def bells_of(flag: PendingFlag) -> str:
    """Return the queue of the flag's bells."""
    return BELLS if flag.queue == BELLS else f"{flag.queue}{_SUFFIX}"


def is_of_bells(queue_name: str) -> bool:
    """Say whether a queue holds bells."""
    return queue_name in {BELLS, SWEEPS} or queue_name.endswith(_SUFFIX)


def kick_name(flag: PendingFlag) -> str:
    """Return the name of the actor of the flag's kicks: dramatiq's priorities are the
    actors'."""
    return f"kick.{flag.priority}" if flag.priority else "kick"


def listen_to(queues: Iterable[str] | None) -> None:
    """Do the work of the flags of `queues` from now on; None: of all flags."""
    global _queues  # noqa: PLW0603
    _queues = None if queues is None else frozenset(queues)


def is_own(flag: PendingFlag) -> bool:
    """Say whether the work of `flag` is this process's, as far as its queue goes."""
    return _queues is None or flag.queue in _queues


def own_handlers() -> list[Handler]:
    """Return the handlers of the flags whose work is this process's."""
    return [handler for handler in all_handlers() if is_own(handler.flag)]
