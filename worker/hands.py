"""What a thread has in its hand: rows that wait for their turn, and rows that are done.

What is done is finished together, one statement for many rows, when the hand is
through; what a slow row would keep waiting another thread finishes meanwhile. It also
gives back what has waited too long: a row is handled within a moment of its claim,
as it was then, or claimed anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from models import PendingFlag
from models.claiming import Claim
from models.connection import connected
from models.finishing import finish_all, give_back, give_back_all

from .calling import Call, claims_of
from .ending import End, record
from .events import Event, log_finished
from .failures import headline
from .handlers import Handler
from .leasing import leases

logger = logging.getLogger("pending")

#: Set when the process is to end: no row is begun any more.
stopping = threading.Event()

_WAITING_SECONDS = 0.1  # the longest that a claimed row waits for its turn
_DONE_SECONDS = 0.04  # … and that one which is done waits for others
_TENDING_SECONDS = 0.01

#: Between looks at rows that are locked: a claim of somebody else's that comes too late
#: has ours until it is over, and the renewal of their leases for a moment.
PAUSES = (0, 0.002, 0.01, 0.05)

Ring = Callable[[PendingFlag], bool]

T = TypeVar("T")


class Hand:
    """The claims that one thread has taken at once.

    Args:
        calls: of the handler; not empty.
        ring: called with the flag when rows were given back that others may take.

    Attributes:
        handled: how many rows the handler was called with.
        seconds: how long it took, all in all.
        ended: how many claims have ended in which way.
    """

    def __init__(self, handler: Handler, calls: Sequence[Call], ring: Ring) -> None:
        self.handler = handler
        self.handled, self.seconds = 0, 0.0
        self.ended = Counter[Event]()
        self._ring = ring
        self._waiting = deque(calls)
        waiting = _WAITING_SECONDS if handler.rate is None else 0
        self._over = self._give_back_at = time.monotonic() + waiting
        self._done: deque[tuple[Claim, End]] = deque()
        self._done_since = 0.0
        self._finishing = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def calls(self) -> Iterator[Call]:
        """Yield the first call, and each whose turn comes soon enough."""
        late = float("inf")
        while self._waiting and time.monotonic() < late and not stopping.is_set():
            late = self._over
            try:
                yield self._waiting.popleft()
            except IndexError:  # given back in this very moment
                return

    def wait_again(self, calls: Sequence[Call]) -> None:
        """Put calls back in front of those that wait: undone, or locked."""
        self._waiting.extendleft(reversed(calls))

    def end(self, call: Call, ends: Sequence[End]) -> None:
        """Note how a call has ended. What did not finish is recorded at once."""
        for claim, end in zip(call, ends, strict=True):
            self.handled, self.seconds = self.handled + 1, self.seconds + end.seconds
            if end.event is not Event.FINISHED:
                self.ended[record(self.handler, claim, end)] += 1
                continue
            if not self._done:
                self._done_since = time.monotonic()
            self._done.append((claim, end))

    def close(self, *, waits: bool = True) -> None:
        """Record what is done, and give back the rest.

        Args:
            waits: for rows that are locked; else another thread does.
        """
        with self._finishing:
            for pause in PAUSES:
                if self._done or self._waiting:
                    time.sleep(pause)
                    self._finish()
                    self._give_back()
        for claim, end in _emptied(self._done):
            if waits:
                self.ended[record(self.handler, claim, end)] += 1
            else:
                leases.later(claim, partial(record, self.handler, claim, end))
        for claim in claims_of(_emptied(self._waiting)):
            leases.later(claim, partial(give_back, claim))

    def tend(self) -> None:
        """Finish what has been done for a while, give back what waits. Never raises."""
        now = time.monotonic()
        is_late = bool(self._waiting) and now > self._give_back_at
        is_done = bool(self._done) and now > self._done_since + _DONE_SECONDS
        is_missed = self.handler.crew.is_stuck()
        if not (is_late or is_done or is_missed):
            return
        flag = self.handler.flag
        try:
            with connected(flag.database), self._finishing:
                if (is_late and self._give_back()) or is_missed:
                    self._ring(flag)
                self._finish()
        except Exception as error:  # noqa: BLE001 (the hand's thread tries again)
            logger.warning("cannot tend flag=%s: %s", flag.label, headline(error))

    def _finish(self) -> None:
        self._done_since = time.monotonic()
        done = _emptied(self._done)
        finished = {claim for claim, end in done if end.record is None}
        finished.update(finish_all([c for c, _ in done if c not in finished]))
        self._done += [pair for pair in done if pair[0] not in finished]
        if not finished:
            return
        leases.let_go(*finished)
        claims = [claim for claim, _ in done if claim in finished]
        log_finished(claims, sum(e.seconds for c, e in done if c in finished))
        self.ended[Event.FINISHED] += len(finished)

    def _give_back(self) -> bool:
        """Give back what waits, and say whether anything was. Rows that are locked go
        on waiting: most are for a moment, by somebody else's claim."""
        calls = _emptied(self._waiting)
        claims = claims_of(calls)
        if not claims:
            return False
        try:
            given = set(give_back_all(claims))
        except Exception:
            self.wait_again(calls)
            raise
        leases.let_go(*given)
        self.wait_again([(claim,) for claim in claims if claim not in given])
        self._give_back_at = time.monotonic() + _WAITING_SECONDS
        return bool(given)


class _Tending:
    """The thread that tends the hands of all others, while there are any."""

    def __init__(self) -> None:
        self._hands: set[Hand] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, hand: Hand) -> None:
        with self._changed:
            self._hands.add(hand)
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._tend, name="hands", daemon=True
                )
                self._thread.start()

    def remove(self, hand: Hand) -> None:
        with self._changed:
            self._hands.discard(hand)

    def _tend(self) -> None:
        while True:
            time.sleep(_TENDING_SECONDS)
            with self._changed:
                self._changed.wait_for(lambda: self._hands)
                hands = list(self._hands)
            for hand in hands:
                hand.tend()


_tending = _Tending()


@contextmanager
def tended(hand: Hand) -> Iterator[Hand]:
    """Let another thread see to `hand` while this one handles its rows."""
    _tending.add(hand)
    try:
        yield hand
    finally:
        _tending.remove(hand)


def finish_what_is_done() -> None:
    """Record what is done in any hand: the process is to end at once."""
    for hand in list(_tending._hands):
        hand._done_since = 0
        hand.tend()


def _emptied(queue: deque[T]) -> list[T]:
    """Take all out of `queue`; another thread may add or take as well."""
    taken = []
    while queue:
        try:
            taken.append(queue.popleft())
        except IndexError:
            break
    return taken
