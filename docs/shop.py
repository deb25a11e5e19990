"""The shop of the pictures: its models, its handlers, and a few busy hours."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from datetime import timedelta
from typing import Any

from peewee import CharField, IntegerField, ModelUpdate

from models import NEVER, PendingFlag, PendingModel, database
from models.connection import connected
from models.migrating import migrate
from models.operations import Count, now
from models.pausing import pause
from models.tallies import bucket, note_sweep
from worker import GiveUp, handles

ORDERS = 200_000
ERRORS = (
    "smtplib.SMTPRecipientsRefused: {'mira@example.com': (550, b'no such mailbox')}"
    " (/srv/shop/receipts.py:41 in send_receipt)"
    "\n  called at /srv/shop/receipts.py:18 in receipt",
    "TimeoutError: the printer has not answered for 30 s"
    " (/srv/shop/printing.py:77 in print_label)",
    "GiveUp: no VAT number",
)


class Order(PendingModel):
    """What the shop sells."""

    customer = CharField()
    total = IntegerField(default=0)
    needs_receipt = PendingFlag()
    needs_shipping_label = PendingFlag()
    needs_invoice = PendingFlag()


class Product(PendingModel):
    """What it has."""

    name = CharField()
    needs_search_index = PendingFlag()


@handles(Order.needs_receipt)
def send_receipt(order: Order) -> None:
    """Now and then there is no such mailbox."""
    time.sleep(0.01)
    if order.id % 40 == 0:
        raise GiveUp("no such mailbox")


@handles(Order.needs_shipping_label)
def print_label(order: Order) -> None:
    """Printers are slow."""
    time.sleep(60)


@handles(Order.needs_invoice)
def send_invoice(order: Order) -> None:
    """Paused, in the pictures."""


@handles(Product.needs_search_index)
def index(product: Product) -> None:
    """Quick."""


def seed() -> None:
    """Fill the shop's database: rows in every state, and three hours of numbers."""
    random.seed(1)
    migrate(database)
    with connected(database), database.atomic():
        database.create_tables([Order, Product])
        names = [f"{name}@example.com" for name in ("mira", "otto", "lena", "dan")]
        for start in range(0, ORDERS, 1000):
            Order.insert_many(
                {
                    "customer": names[n % 4],
                    "total": n % 900,
                    # most were marked, and are done
                    "needs_invoice": n % 150 == 0,
                    "needs_receipt": n % 8000 == 1,
                }
                for n in range(start, start + 1000)
            ).execute()
        Product.insert_many({"name": f"Lamp {n}"} for n in range(300)).execute()
        _states()
        _history()
        note_sweep(age=timedelta(seconds=20))
        pause(
            Order.needs_invoice.label, by="dana", reason="the mail server moves tonight"
        )


def _states() -> None:
    moment = now()
    receipt, label = Order.needs_receipt, Order.needs_shipping_label
    hour = 3_600_000
    for flag, keys, values in (
        (receipt, range(100, 112), {"due": NEVER, "attempts": 10, "error": ERRORS[0]}),
        (receipt, range(300, 303), {"due": NEVER, "attempts": 1, "error": ERRORS[2]}),
        (label, range(500, 512), {"due": moment - 200_000, "attempts": 0}),
        (
            label,
            range(700, 709),
            {"due": moment + 900_000, "attempts": 3, "error": ERRORS[1]},
        ),
        (receipt, range(900, 980), {"due": moment + 20 * hour, "attempts": 0}),
    ):
        of = flag.model
        changes: dict[Any, Any] = {getattr(flag, k): v for k, v in values.items()}
        changes |= {flag: True, flag.at: moment - random.randrange(hour, 5 * hour)}
        ModelUpdate(of, changes).where(of.id.in_(list(keys))).execute()


def _history() -> None:
    minute = now() // 60_000
    flags = {
        Order.needs_receipt: (220, 400, 12),
        Order.needs_shipping_label: (14, 9_000, 10),
        Order.needs_invoice: (60, 900, 5),
        Product.needs_search_index: (900, 60, 0),
    }
    rows = []
    for flag, (rate, wait_ms, due) in flags.items():
        for back in range(1, 180):
            wave = 1 + 0.5 * math.sin(back / 17) + random.uniform(-0.15, 0.15)
            busy = 3 if 60 < back < 75 else 1
            paused = flag is Order.needs_invoice and back < 45
            finished = 0 if paused else round(rate * wave)
            counts: Counter[str] = Counter(finished=finished)
            for _ in range(0 if paused else 20):
                waited = random.expovariate(1 / (wait_ms * busy * wave))
                counts[bucket("wait", waited)] += max(1, finished // 20)
            waiting = (45 - back) * 60 if paused else due * wave * busy**2
            counts["due"] = round(waiting)
            rows += [
                {"flag": flag.label, "minute": minute - back, "name": k, "n": n}
                for k, n in counts.items()
            ]
    for start in range(0, len(rows), 500):
        Count.insert_many(rows[start : start + 500]).execute()
