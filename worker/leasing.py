"""The thread that renews the leases of the rows that are being handled.

One thread a process, for as long as the process lives: a crash costs no more than
the lease, however long a handler runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from models.claiming import Claim, renew
from models.connection import connected

from .settings import settings

logger = logging.getLogger(__name__)

_RENEWALS_A_LEASE = 3


class Leases:
    """The claims that this process holds, and the thread that keeps them.

    Args:
        lease: the time that a renewed claim holds; above zero.
    """

    def __init__(self, lease: timedelta) -> None:
        self.lease = lease
        self._held: set[Claim] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def kept(self, claim: Claim) -> Iterator[None]:
        """Renew `claim` again and again, until the block ends."""
        with self._lock:
            self._held.add(claim)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._keep, name="leases", daemon=True
                )
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(claim)

    def _keep(self) -> None:
        while True:
            time.sleep(self.lease.total_seconds() / _RENEWALS_A_LEASE)
            try:
                self.renew_all()
            except Exception as error:  # noqa: BLE001 (the thread must live)
                logger.warning("leases not renewed, trying again: %s", error)

    def renew_all(self) -> None:
        """Renew every claim that is held now, one statement a flag."""
        with self._lock:
            claims = list(self._held)
        flags = defaultdict(list)
        for claim in claims:
            flags[claim.flag].append(claim)
        for flag, own in flags.items():
            with connected(flag.database):
                renew(flag, own, lease=self.lease)


leases = Leases(settings.lease)
