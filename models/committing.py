"""Step 2, commit: the database's own; here the listeners hear of it.

A listener is told after the outermost commit, once a transaction and flag,
however many rows were marked. Nothing that it does reaches the caller, whose data
is committed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary, ref

import peewee

from .loops import in_event_loop

if TYPE_CHECKING:
    from .flags import PendingFlag

logger = logging.getLogger("pending")

Listener = Callable[["PendingFlag"], object]

L = TypeVar("L", bound=Listener)

_listeners: list[Listener] = []


def on_mark(listener: L) -> L:
    """Call `listener(flag)` after each commit that marked rows of `flag`.

    It is called in the thread that committed, which may be an event loop's, so it
    must be quick. Usable as a decorator.
    """
    _listeners.append(listener)
    return listener


def announce(flag: PendingFlag, database: peewee.Database) -> None:
    """Tell the listeners of `flag` once the open transaction has committed.

    Without a transaction that is at once. Where peewee cannot tell when the commit
    comes (`manual_commit()`) nobody is told: the sweep finds the row.
    """
    if not database.in_transaction():
        _tell(flag)
        return
    key = (id(database), _task(), id(flag))
    waiting = _waiting.bells.get(key)
    if waiting is not None and not waiting.rung:
        return
    bell = _Bell(flag)
    try:
        database.after_commit(bell)
    except ValueError:
        logger.debug("no bell in a manual commit flag=%s", flag.label)
    else:
        _waiting.bells[key] = bell


class _Bell:
    def __init__(self, flag: PendingFlag) -> None:
        self.flag = flag
        self.rung = False

    def __call__(self) -> None:
        self.rung = True
        _tell(self.flag)


def _tell(flag: PendingFlag) -> None:
    for listener in _listeners:
        try:
            listener(flag)
        except Exception:
            logger.exception("a listener failed flag=%s", flag.label)


def _task() -> ref[Any] | None:
    """Return which task of this thread runs: each may have its own transaction."""
    task = asyncio.current_task() if in_event_loop() else None
    return ref(task) if task else None


class _Waiting(threading.local):
    """The bells of this thread's open transactions. Held by peewee alone: after a
    rollback it drops them, and they are gone from here too."""

    def __init__(self) -> None:
        self.bells: WeakValueDictionary[Any, _Bell] = WeakValueDictionary()


_waiting = _Waiting()
