"""What the application hears of failures, and what it keeps out of their text.

Callbacks run in a thread of their own, one after the other: one that raises, hangs
or is slow delays the others, never the work. What waits for too long is dropped.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

logger = logging.getLogger("pending")

_MOST_WAITING = 1_000


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that failed.

    Attributes:
        flag: the flag's label.
        key: the row's, as people type it.
        attempt: 1 for the first one of this mark.
        error: type, message and place, redacted.
        parked: the row was given up: it waits for a person.
    """

    flag: str
    key: str
    attempt: int
    error: str
    parked: bool


Callback = Callable[[Failure], object]
Redaction = Callable[[str], str]
C = TypeVar("C", bound=Callback)
R = TypeVar("R", bound=Redaction)

_on_failed: list[Callback] = []
_on_parked: list[Callback] = []
_redactions: list[Redaction] = []


def on_failed(callback: C) -> C:
    """Call `callback(failure)` for each attempt that failed, the last one included.

    A decorator. In a worker process, after the failure was recorded.
    """
    _on_failed.append(callback)
    return callback


def on_parked(callback: C) -> C:
    """Call `callback(failure)` for each row that was parked; as `on_failed`."""
    _on_parked.append(callback)
    return callback


def redact(redaction: R) -> R:
    """Let `redaction(text)` change the text of each error before it is stored,
    logged or told. A decorator. If it raises, the text is withheld."""
    _redactions.append(redaction)
    return redaction


def redacted(text: str) -> str:
    """Return `text` as it may be stored and shown."""
    for redaction in _redactions:
        try:
            text = str(redaction(text))
        except Exception:  # noqa: BLE001 (the failure is recorded all the same)
            name = getattr(redaction, "__qualname__", repr(redaction))
            return f"<withheld: the redaction {name} failed>"
    return text


def tell(failure: Failure) -> None:
    """Have the callbacks called, soon. Never raises, never waits."""
    callbacks = [*_on_failed, *(_on_parked if failure.parked else ())]
    for callback in callbacks:
        _teller.tell(callback, failure)


def told(*, seconds: float) -> bool:
    """Wait until all callbacks were called, for `seconds` at most.

    Returns:
        True, or False if some still wait.
    """
    return _teller.wait(seconds)


class _Teller:
    def __init__(self) -> None:
        self._waiting: deque[tuple[Callback, Failure]] = deque()
        self._untold = 0  # waiting, or being told
        # No queue.Queue: under gevent it is another one, whose end none can wait for.
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._full = False

    def tell(self, callback: Callback, failure: Failure) -> None:
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="hooks", daemon=True
                )
                self._thread.start()
            was_full, self._full = self._full, len(self._waiting) >= _MOST_WAITING
            if not self._full:
                self._waiting.append((callback, failure))
                self._untold += 1
                self._changed.notify_all()
        if self._full and not was_full:
            logger.warning("hooks are too slow, failures are not told")

    def wait(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._untold, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                callback, failure = self._waiting.popleft()
            try:
                callback(failure)
            except Exception:
                name = getattr(callback, "__qualname__", repr(callback))
                logger.exception(
                    "a hook failed hook=%s flag=%s key=%s",
                    *(name, failure.flag, failure.key),
                )
            finally:
                with self._changed:
                    self._untold -= 1
                    self._changed.notify_all()


_teller = _Teller()
