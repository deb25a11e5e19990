"""Waiting for facts, never for time to pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(fact: Callable[[], T], *, seconds: float = 60, what: str = "") -> T:
    """Ask again and again until `fact()` is true, and return it.

    Raises:
        AssertionError: it was not true within the generous deadline.
    """
    deadline = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or fact}"
        time.sleep(0.02)
    return found
