"""What becomes of an event beside its line in the log: numbers, and hooks.

Called from the middle of a drain, for each row: it never raises, never waits, and
takes a few microseconds.
"""

from __future__ import annotations

import logging
import re
import time
from datetime import timedelta
from typing import Any

from models.claiming import Claim
from models.finding import key_text

from .hooks import Failure, tell
from .settings import settings
from .tallying import measured, pulse, tallies

logger = logging.getLogger("pending")

_FAILED = {"released", "parked"}
_MOST_BEGUN = 100_000  # claims whose end was never told, before they are forgotten
_LEASE_MS = settings.lease / timedelta(milliseconds=1)

_NOTE = re.compile(
    r"(?:ms=(?P<ms>\d+)|crashes=(?P<crashes>\d+)"
    r"|due in (?P<wait_seconds>\d+) s: (?P<error>.*)|(?P<reason>.+))",
    re.DOTALL,
)

_begun: dict[Claim, float] = {}


def observe(event: str, claim: Claim, note: str = "") -> None:
    """Count `event`, and tell the hooks of a failure."""
    try:
        label, now = claim.flag.label, time.monotonic()
        pulse.drained = now
        if event == "claimed":
            _begin(label, claim, now)
            return
        tallies.add(
            label, *_counted(event, claim, (now - _begun.pop(claim, now)) * 1e3)
        )
        if event in _FAILED:
            tell(_failure(event, claim, note))
    except Exception:
        logger.exception("an event was not observed event=%s", event)


def facts_of(claim: Claim, note: str = "") -> dict[str, Any]:
    """Return what a line about `claim` says, by name."""
    found = _NOTE.fullmatch(note.strip())
    noted = {k: v for k, v in found.groupdict().items() if v} if found else {}
    if "reason" in noted:
        noted["error"] = noted.pop("reason")
    return {
        "flag": claim.flag.label,
        "key": key_text(claim.key),
        **{k: v if k == "error" else int(v) for k, v in noted.items()},
    }


def _begin(label: str, claim: Claim, now: float) -> None:
    if len(_begun) >= _MOST_BEGUN:
        _begun.clear()
    _begun[claim] = now
    if claim.crashes:
        tallies.add(label, ("crashed", 1))


def _counted(event: str, claim: Claim, elapsed: float) -> list[tuple[str, int]]:
    counted = [(event, 1)]
    if event in _FAILED:
        counted.append(("failed", 1))
    if event == "finished":
        counted += measured("wait", _waited(claim) + elapsed)
    if event == "finished" or event in _FAILED:
        counted += measured("duration", elapsed)
    return counted


def _failure(event: str, claim: Claim, note: str) -> Failure:
    facts = facts_of(claim, note)
    return Failure(
        flag=facts["flag"],
        key=facts["key"],
        attempt=claim.attempt,
        error=facts.get("error", ""),
        parked=event == "parked",
    )


def _waited(claim: Claim) -> float:
    """Return how long, in ms, the claim came after the mark; or after the time that
    the mark was delayed to. By the database's clock alone."""
    flag, own = claim.flag, claim.row.__dict__
    at, due = own.get(flag.at.name) or 0, own.get(flag.due.name) or 0
    begin = max(at, due) if claim.attempt == 1 else at
    claimed = (own.get(flag.until.name) or 0) - _LEASE_MS
    return max(0.0, claimed - begin) if begin else 0.0
