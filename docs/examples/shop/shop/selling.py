"""What happens in the shop: data and marks, in one transaction each.

Plain functions. FastAPI calls plain endpoints in threads, so nothing here blocks its
event loop. Whatever commits here rings for the workers by itself, because `worker` is
imported.
"""

from __future__ import annotations

import worker  # noqa: F401 (whoever imports it kicks after each commit)
from models import database

from .models import Order, Product


def offer(name: str, price: int, description: str) -> Product:
    """Sell a product from now on; the search will know it."""
    with database.connection_context():
        return Product.create(
            name=name, price=price, description=description, needs_indexing=True
        )


def change(product_id: int, price: int) -> Product:
    """Change a price. Raises Product.DoesNotExist."""
    with database.connection_context():
        product = Product.get_by_id(product_id)
        product.price = price
        product.needs_indexing = True  # by the same UPDATE
        product.save()
    return product


def place_order(
    product_id: int, email: str, quantity: int, webhook: str | None
) -> Order:
    """Take an order. Raises Product.DoesNotExist; then nothing is written."""
    with database.connection_context(), database.atomic():
        product = Product.get_by_id(product_id)
        return Order.create(
            product=product,
            email=email,
            quantity=quantity,
            total=quantity * product.price,
            webhook=webhook,
            needs_receipt=True,
            needs_webhook=webhook is not None,
        )


def look_up(order_id: int) -> Order:
    """Return an order. Raises Order.DoesNotExist."""
    with database.connection_context():
        return Order.get_by_id(order_id)
