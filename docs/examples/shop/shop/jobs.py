"""What the workers do: `dramatiq worker shop.jobs`.

One handler a flag, of each kind: a row at a time, a batch at a time, many rows at the
same time. Each may be called twice for one mark, if a worker dies at the wrong moment;
so each tells the world outside by a key that stays the same.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from http import HTTPStatus

import httpx2

from worker import GiveUp, RetryLater, handles

from . import mail, search
from .models import Order, Product

logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for each request

_client = httpx2.AsyncClient(timeout=5)  # one for all calls, as long as the process


@handles(Order.needs_receipt, attempts=20)
def send_receipt(order: Order) -> None:
    """Mail what was bought. When it was sent is saved with the clearing of the flag."""
    message = EmailMessage()
    message["To"] = order.email
    message["Subject"] = f"Your order {order.id}"
    message.set_content(
        f"{order.quantity} × {order.product.name}: {order.total / 100:.2f}\nThank you!"
    )
    mail.send(message, key=Order.needs_receipt.key_of_mark(order))
    order.receipt_sent_at = datetime.now(UTC).replace(tzinfo=None)


@handles(Product.needs_indexing, batch=200)
def index(products: list[Product]) -> None:
    """Bring the search up to date, many products by one transaction."""
    search.put(
        [search.Found(one.id, one.name, one.price, one.description) for one in products]
    )


@handles(Order.needs_webhook, concurrency=50, time_limit=timedelta(seconds=10))
async def notify(order: Order) -> None:
    """Tell the customer's system.

    Nothing here queries the database, which would keep the other calls waiting.
    """
    if order.webhook is None:
        return
    response = await _client.post(
        order.webhook,
        json={"order": order.id, "product": order.product_id, "total": order.total},
        headers={"Idempotency-Key": Order.needs_webhook.key_of_mark(order)},
    )
    if response.status_code == HTTPStatus.GONE:
        raise GiveUp(f"{order.webhook} wants to hear no more")
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        seconds = int(response.headers.get("Retry-After", 60))
        raise RetryLater(timedelta(seconds=seconds), "too many requests")
    response.raise_for_status()
