"""The thread that renews the leases of the rows that are being handled.

One thread a process, for as long as the process lives: a crash costs no more than
the lease, however long a handler runs. The same thread ends handlers that run
longer than they may; the lease of one that cannot be ended is renewed no more.
"""

from __future__ import annotations

import ctypes
import logging
import math
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from dramatiq.middleware import TimeLimitExceeded, raise_thread_exception

from models import PendingFlag
from models.claiming import Claim, renew, renew_waiting
from models.connection import connected

from .failures import headline
from .patience import Patience
from .permitting import permits
from .settings import settings

logger = logging.getLogger("pending")

_RENEWALS_A_LEASE = 3
_LOOK_SECONDS = 0.25  # how late a time limit may be
_PATIENCE_SECONDS = 1
_LONG_SECONDS = 0.1  # of a lock: whoever has it may have those of other rows


@dataclass(slots=True, eq=False)
class _Limit:
    """When a call of a handler is to end, and in which thread it runs."""

    claims: frozenset[Claim]
    ends: float
    thread: int
    ends_itself: bool
    is_over: bool = False
    is_reported: bool = False


class Leases:
    """The claims that this process holds, and the thread that keeps them.

    Args:
        lease: the time that a renewed claim holds; above zero.
    """

    def __init__(self, lease: timedelta) -> None:
        self.lease = lease
        self._held: set[Claim] = set()
        self._ending: set[Claim] = set()
        self._limits: set[_Limit] = set()
        self._passed_over: set[Claim] = set()
        self._waiting: set[Claim] = set()
        self._lock = threading.Lock()
        self._is_needed = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock_is_gone = threading.Event()
        self._patience = Patience[set[Claim]](_PATIENCE_SECONDS)
        self._waiters = ThreadPoolExecutor(thread_name_prefix="waiting-for-row")
        self._enders = ThreadPoolExecutor(thread_name_prefix="ending-row")

    @contextmanager
    def kept(self, *claims: Claim) -> Iterator[None]:
        """Hold `claims`, each until it is let go or the block ends."""
        self.hold(*claims)
        try:
            yield
        finally:
            self.let_go(*claims)

    def hold(self, *claims: Claim) -> None:
        """Renew `claims` again and again, until they are let go."""
        with self._lock:
            self._held.update(claims)
            self._is_needed.set()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._keep, name="leases", daemon=True
                )
                self._thread.start()

    def let_go(self, *claims: Claim) -> None:
        """Renew `claims` no more: they have ended."""
        with self._lock:
            self._held.difference_update(claims)

    def later(self, claim: Claim, end: Callable[[], object]) -> None:
        """End a claim whose row is locked, in a thread that may wait for it."""
        with self._lock:
            self._ending.add(claim)
            self._is_needed.set()
        self._enders.submit(self._end, claim, end)

    @contextmanager
    def limited(
        self, claims: Sequence[Claim], limit: timedelta | None, *, ends_itself: bool
    ) -> Iterator[None]:
        """Renew `claims` no longer than the block may take, and end it then.

        Args:
            limit: raises TimeLimitExceeded in the block when it is over; None: never.
            ends_itself: the block sees to that, if its event loop is not blocked.
        """
        if limit is None:
            yield
            return
        thread = threading.get_ident()
        watch = _Limit(
            frozenset(claims),
            time.monotonic() + limit.total_seconds(),
            thread,
            ends_itself,
        )
        with self._lock:
            self._limits.add(watch)
        try:
            yield
        finally:
            with self._lock:
                self._limits.discard(watch)
                if watch.is_over and not ends_itself:
                    # It may still be under way, and would hit whatever comes next.
                    thread_id = ctypes.c_ulong(thread)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(thread_id, None)

    def held(self) -> list[Claim]:
        """Return the claims that are to be renewed: not those past their limit."""
        with self._lock:
            held = self._held | self._ending
            for limit in self._limits:
                if limit.is_over:
                    held -= limit.claims
            return list(held)

    def renew_all(self) -> None:
        """Renew every claim that is held now, one statement a flag. Never raises."""
        self._renew(self.held())

    def _keep(self) -> None:
        while self._is_needed.wait():
            self._keep_what_is_held()

    def _keep_what_is_held(self) -> None:
        """Renew what is held and end what is overdue, until nothing is left."""
        between_renewals = self.lease.total_seconds() / _RENEWALS_A_LEASE
        pause = between_renewals / math.ceil(between_renewals / _LOOK_SECONDS)
        renewal = time.monotonic() + between_renewals
        while self._is_needed.is_set():
            is_gone = self._lock_is_gone.wait(pause)
            self._end_overdue()
            if is_gone or time.monotonic() >= renewal:
                self._lock_is_gone.clear()
                renewal = time.monotonic() + between_renewals
                self.renew_all()
            elif self._passed_over:
                self._renew(self._passed_over.intersection(self.held()))
            with self._lock:
                if not (self._held or self._ending or self._limits):
                    self._is_needed.clear()

    def _renew(self, claims: Iterable[Claim]) -> None:
        """Renew `claims`, and note which were passed over: most likely their rows were
        locked for a moment, so they have another turn at the next look."""
        flags, passed_over = defaultdict(list), set[Claim]()
        for claim in claims:
            flags[claim.flag].append(claim)
        for flag, own in flags.items():
            with suppress(TimeoutError):  # its table is locked: the other flags go on
                renewing = partial(self._renew_of, flag, own)
                passed_over.update(self._patience.ask(flag, renewing))
        self._passed_over = passed_over

    def _renew_of(self, flag: PendingFlag, claims: list[Claim]) -> set[Claim]:
        """Renew claims of one flag, and return those that were passed over."""
        try:
            with connected(flag.database):
                renewed = renew(flag, claims, lease=self.lease)
                permits.renew(flag, claims, lease=self.lease)
        except Exception as error:  # noqa: BLE001 (the other flags, and the thread)
            logger.warning(
                "leases not renewed, trying again flag=%s: %s",
                flag.label,
                headline(error),
            )
            return set()
        # Locked, perhaps by their own handlers; or lost, which their ends will tell.
        passed_over = set(claims) - set(renewed)
        with self._lock:
            unguarded = passed_over - self._waiting - self._ending
        for claim in unguarded:
            self._waiting.add(claim)
            self._waiters.submit(self._wait_for_row, claim)
        return passed_over

    def _wait_for_row(self, claim: Claim) -> None:
        """Stand first in the row's queue: it must not expire when the lock goes."""
        try:
            with connected(claim.flag.database), self._in_line():
                renew_waiting(claim, lease=self.lease)
        except Exception as error:  # noqa: BLE001 (the next renewal tries again)
            logger.warning("lease not renewed %s: %s", claim, headline(error))
        finally:
            self._waiting.discard(claim)

    def _end(self, claim: Claim, end: Callable[[], object]) -> None:
        try:
            with connected(claim.flag.database), self._in_line():
                end()
        except Exception as error:  # noqa: BLE001 (its lease runs out)
            logger.warning("not ended %s: %s", claim, headline(error))
        finally:
            with self._lock:
                self._ending.discard(claim)

    @contextmanager
    def _in_line(self) -> Iterator[None]:
        """Wait for a row in the block. If that took long, then with its lock others may
        be gone for which nobody waits: there are fewer threads than rows."""
        since = time.monotonic()
        yield
        if time.monotonic() > since + _LONG_SECONDS:
            self._lock_is_gone.set()

    def _end_overdue(self) -> None:
        now = time.monotonic()
        with self._lock:
            for limit in self._limits:
                if now >= limit.ends and not limit.is_over:
                    limit.is_over = True
                    if not limit.ends_itself:
                        raise_thread_exception(limit.thread, TimeLimitExceeded)
                is_stuck = now >= limit.ends + self.lease.total_seconds()
                if is_stuck and not limit.is_reported:
                    limit.is_reported = True
                    place = _place(limit.thread)
                    for claim in limit.claims:
                        logger.error("stuck %s in %s", claim, place)


def _place(thread: int) -> str:
    frame = sys._current_frames().get(thread)
    lines = traceback.extract_stack(frame, limit=1) if frame else []
    return ", ".join(f"{f.filename}:{f.lineno} in {f.name}" for f in lines)


leases = Leases(settings.lease)
