"""Steps of the flow in one word, where they are the setting and not the subject."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from domain import Order

from models.claiming import Claim, claim
from models.marking import mark_pending

LEASE, HOUR = timedelta(seconds=30), timedelta(hours=1)


def claim_one(flag: Any) -> Claim:
    """Claim the one row that is due."""
    (held,) = claim(flag, limit=1, lease=LEASE)
    return held


def marked_and_claimed(flag: Any, row: Any) -> Claim:
    """Mark `row`, the only one to be due, and claim it."""
    mark_pending(row, flag)
    return claim_one(flag)


def pending_orders(count: int) -> None:
    """Insert orders that need a receipt, with totals from 0 on."""
    Order.insert_many(
        [{"total": n, "customer": "a", "needs_receipt": True} for n in range(count)]
    ).execute()
