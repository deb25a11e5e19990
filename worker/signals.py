"""What a handler raises to say what is to become of its row."""

from __future__ import annotations

from datetime import timedelta

from models import FlagError


class HandlerSignal(FlagError):
    """Raised by handlers to say what is to become of the row."""


class RetryLater(HandlerSignal):
    """Not a failure, but not the time: the row is due again after `wait`.

    Args:
        wait: from now; not below zero.
        reason: kept as the row's error.
    """

    def __init__(self, wait: timedelta, reason: str = "") -> None:
        if not isinstance(wait, timedelta):
            raise TypeError(f"wait is a timedelta, not {wait!r}")
        super().__init__(reason or f"due again in {wait}")
        if wait < timedelta(0):
            raise ValueError(f"wait is negative: {wait}")
        self.wait = wait


class GiveUp(HandlerSignal):
    """No attempt will succeed: the row is parked, with `reason` as its error."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
