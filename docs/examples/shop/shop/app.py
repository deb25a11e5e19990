"""The shop's web application: `uvicorn shop.app:app`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from worker import mark_pending_async

from . import search, selling
from .models import Order, Product

app = FastAPI(title="Shop")


class NewProduct(BaseModel):
    """The price is in cents."""

    name: str
    price: Annotated[int, Field(ge=0)]
    description: str = ""


class NewPrice(BaseModel):
    """In cents."""

    price: Annotated[int, Field(ge=0)]


class NewOrder(BaseModel):
    """The webhook is a URL that is told of the order."""

    product: int
    email: str
    quantity: Annotated[int, Field(ge=1)] = 1
    webhook: str | None = None


@app.exception_handler(Product.DoesNotExist)
@app.exception_handler(Order.DoesNotExist)
def not_found(request: Request, error: Exception) -> JSONResponse:
    """Say 404 of what is not there."""
    return JSONResponse({"detail": "there is no such thing"}, 404)


@app.post("/products", status_code=201)
def offer(new: NewProduct) -> dict[str, Any]:
    """Sell a product."""
    product = selling.offer(new.name, new.price, new.description)
    return {"id": product.id, "name": product.name, "price": product.price}


@app.put("/products/{product_id}/price")
def change(product_id: int, new: NewPrice) -> dict[str, Any]:
    """Change a price."""
    product = selling.change(product_id, new.price)
    return {"id": product.id, "name": product.name, "price": product.price}


@app.get("/search")
def find(words: str) -> list[dict[str, Any]]:
    """Find products by all of the words."""
    return [
        {"id": one.id, "name": one.name, "price": one.price}
        for one in search.find(words)
    ]


@app.post("/orders", status_code=201)
def place_order(new: NewOrder) -> dict[str, Any]:
    """Take an order; what it needs is done in a moment, by a worker."""
    order = selling.place_order(new.product, new.email, new.quantity, new.webhook)
    return _seen(order)


@app.get("/orders/{order_id}")
def look_up(order_id: int) -> dict[str, Any]:
    """Say how an order stands."""
    return _seen(selling.look_up(order_id))


@app.post("/orders/{order_id}/receipt", status_code=202)
async def send_again(order_id: int) -> None:
    """Send the receipt once more. A coroutine, for which the mark is awaited."""
    order = Order.select().where(Order.id == order_id)
    if not await mark_pending_async(order, Order.needs_receipt):
        raise HTTPException(404)


def _seen(order: Order) -> dict[str, Any]:
    return {
        "id": order.id,
        "total": order.total,
        "receipt_sent_at": order.receipt_sent_at,
        "needs": [
            flag for flag in ("needs_receipt", "needs_webhook") if getattr(order, flag)
        ],
    }
