"""What becomes of an event beside its line in the log: numbers, and hooks.

Called from the middle of a drain, for each row: it never raises, never waits, and
takes a few microseconds.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from models.claiming import Claim
from models.finding import key_text

from .hooks import Failure, tell
from .settings import settings
from .tallying import measured, pulse, tallies

logger = logging.getLogger("pending")

_FAILED = {"released", "parked"}
_LEASE_MS = settings.lease / timedelta(milliseconds=1)

_NOTE = re.compile(
    r"(?:ms=(?P<ms>\d+)|crashes=(?P<crashes>\d+)"
    r"|due in (?P<wait_seconds>\d+) s: (?P<error>.*)|(?P<reason>.+))",
    re.DOTALL,
)


def observe(
    event: str, claims: Sequence[Claim], seconds: float, note: str = ""
) -> None:
    """Count `event` for claims of one flag, and tell the hooks of a failure.

    Args:
        seconds: that the handler took for each.
    """
    try:
        pulse.drained = time.monotonic()
        counted = _counted(event, claims, seconds * 1000)
        tallies.add(claims[0].flag.label, *counted.items())
        if event in _FAILED:
            tell(_failure(event, claims[0], note))
    except Exception:
        logger.exception("an event was not observed event=%s", event)


def observe_claims(claims: Sequence[Claim]) -> None:
    """Count the claims whose last one had no end."""
    pulse.drained = time.monotonic()
    for claim in claims:
        if claim.crashes:
            tallies.add(claim.flag.label, ("crashed", 1))


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


def _counted(event: str, claims: Sequence[Claim], elapsed: float) -> Counter[str]:
    counted = Counter({event: len(claims)})
    if event in _FAILED:
        counted["failed"] = len(claims)
    if event == "finished":
        counted.update(measured("wait", [wait + elapsed for wait in _waits(claims)]))
    if event == "finished" or event in _FAILED:
        counted.update(measured("duration", [elapsed] * len(claims)))
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


def _waits(claims: Sequence[Claim]) -> list[float]:
    """Return how long, in ms, each claim came after its mark; or after the time that
    the mark was delayed to. By the database's clock alone."""
    flag = claims[0].flag
    at_name, due_name, until_name = flag.at.name, flag.due.name, flag.until.name
    waits = []
    for claim in claims:
        own = claim.row.__dict__
        at, due = own.get(at_name) or 0, own.get(due_name) or 0
        begin = max(at, due) if claim.attempt == 1 else at
        claimed = (own.get(until_name) or 0) - _LEASE_MS
        waits.append(max(0.0, claimed - begin) if begin else 0.0)
    return waits
