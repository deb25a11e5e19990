"""Questions that may get no answer: what is asked of a table that somebody has locked
hangs until the lock goes, and must keep nobody else waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Patience(Generic[T]):
    """Asks questions in threads of their own, and waits `seconds` for each answer.

    One that gets none is not asked again while it hangs.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._asked: dict[Hashable, tuple[Future[T], float]] = {}
        self._lock = threading.Lock()

    def ask(self, about: Hashable, question: Callable[[], T]) -> T:
        """Return the answer to `question`, or to the one that was asked about the same.

        Raises:
            TimeoutError: there is none within the time, or a former one hangs.
            Exception: whatever the question raises.
        """
        with self._lock:
            asked = self._asked.get(about)
            if asked is None:
                asked = self._asked[about] = Future(), time.monotonic()
                thread = threading.Thread(
                    target=self._answer, args=(about, question), daemon=True
                )
                thread.start()
        answer, since = asked
        return answer.result(max(0.0, since + self._seconds - time.monotonic()))

    def _answer(self, about: Hashable, question: Callable[[], T]) -> None:
        answer, _ = self._asked[about]
        try:
            found = question()
        except BaseException as error:  # noqa: BLE001 (the asker's)
            self._forget(about)
            answer.set_exception(error)
        else:
            self._forget(about)
            answer.set_result(found)

    def _forget(self, about: Hashable) -> None:
        with self._lock:
            del self._asked[about]
