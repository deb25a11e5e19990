"""What becomes of an event beside its line in the log: numbers, hooks, facts.

Called from the middle of a drain, so it never raises and never waits.
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
from .tallying import pulse, tallies

logger = logging.getLogger("pending")

_FAILED = {"released", "parked"}
_MOST_BEGUN = 100_000  # claims whose end was never told, before they are forgotten
_MS = timedelta(milliseconds=1)

_NOTE = re.compile(
    r"(?:ms=(?P<ms>\d+)|crashes=(?P<crashes>\d+)"
    r"|due in (?P<wait_seconds>\d+) s: (?P<error>.*)|(?P<reason>.+))",
    re.DOTALL,
)

_begun: dict[Claim, float] = {}


def observe(event: str, claim: Claim, note: str = "") -> dict[str, Any]:
    """Count `event`, tell the hooks of a failure, and return what is known of it.

    Returns:
        The event's facts by name, as in the JSON log.
    """
    facts: dict[str, Any] = {"event": str(event)}
    try:
        facts |= _facts(claim, note)
        _count(str(event), claim, facts)
        if event in _FAILED:
            tell(
                Failure(
                    flag=facts["flag"],
                    key=facts["key"],
                    attempt=claim.attempt,
                    error=facts.get("error", ""),
                    parked=event == "parked",
                )
            )
    except Exception:
        logger.exception("an event was not observed event=%s", event)
    return facts


def _facts(claim: Claim, note: str) -> dict[str, Any]:
    found = _NOTE.fullmatch(note)
    noted = {k: v for k, v in found.groupdict().items() if v} if found else {}
    if "reason" in noted:
        noted["error"] = noted.pop("reason")
    return {
        "flag": claim.flag.label,
        "key": key_text(claim.key),
        "attempt": claim.attempt,
        **{k: v if k == "error" else int(v) for k, v in noted.items()},
    }


def _count(event: str, claim: Claim, facts: dict[str, Any]) -> None:
    label, now = facts["flag"], time.monotonic()
    pulse.drained = now
    if event == "claimed":
        if len(_begun) >= _MOST_BEGUN:
            _begun.clear()
        _begun[claim] = now
        if claim.crashes:
            tallies.add(label, "crashed")
        return
    elapsed = (now - _begun.pop(claim, now)) * 1000
    tallies.add(label, event, *(("failed",) if event in _FAILED else ()))
    if event in {"finished", *_FAILED}:
        tallies.measure(label, "duration", facts.get("ms", elapsed))
    if event == "finished":
        tallies.measure(label, "wait", _waited(claim) + elapsed)


def _waited(claim: Claim) -> float:
    """Return how long, in ms, the claim came after the mark; or after the time that
    the mark was delayed to. By the database's clock alone."""
    flag, row = claim.flag, claim.row
    at, due, until = (
        getattr(row, field.name) or 0 for field in (flag.at, flag.due, flag.until)
    )
    begin = max(at, due) if claim.attempt == 1 else at
    claimed = until - settings.lease / _MS
    return max(0.0, claimed - begin) if begin else 0.0
