"""A user's program, which mypy in strict mode and pyright find nothing wrong with."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from peewee import CharField, ForeignKeyField, IntegerField

from models import PendingFlag, PendingModel, database
from worker import (
    GiveUp,
    RetryLater,
    handles,
    mark_pending,
    mark_pending_async,
    unmark,
    unmark_async,
)


class Customer(PendingModel):
    email = CharField(unique=True)
    greeting = CharField(null=True)
    needs_greeting = PendingFlag(help_text="a letter")


class Shipped(PendingModel):
    needs_label = PendingFlag()

    class Meta:
        table_name = "shipment"


class Order(Shipped):
    customer = ForeignKeyField(Customer, backref="orders")
    total = IntegerField(default=0)
    needs_receipt = PendingFlag()
    needs_index = PendingFlag()
    needs_webhook = PendingFlag()


assert_type(Customer.needs_greeting, PendingFlag[Customer])
assert_type(Order.needs_label, PendingFlag[Order])


@handles(Customer.needs_greeting, attempts=3, wait=timedelta(seconds=1))
def greet(customer: Customer) -> None:
    if customer.email.endswith(".invalid"):
        raise GiveUp("no such customer")
    customer.greeting = f"Hello, {customer.email}"
    assert_type(customer.needs_greeting, bool)
    customer.needs_greeting = True


@handles(Order.needs_index, batch=500)
def index(orders: list[Order]) -> list[Exception | None]:
    return [None if order.total else ValueError("empty") for order in orders]


@handles(Order.needs_webhook, concurrency=20)
async def notify(order: Order) -> None:
    if order.total < 0:
        raise RetryLater(timedelta(minutes=1))


class Printer:
    def __call__(self, order: Shipped) -> str:
        return str(order.needs_label)

    def receipt(self, order: Order) -> None:
        assert_type(Order.needs_receipt.key_of_mark(order), str)


handles(Order.needs_label)(Printer())
handles(Order.needs_receipt, atomic=True)(Printer().receipt)


def sign_up(email: str) -> Customer:
    with database.atomic():
        customer = Customer.create(email=email, needs_greeting=True)
    assert_type(customer, Customer)
    assert_type(mark_pending(customer, Customer.needs_greeting), int)
    mark_pending(customer, "needs_greeting", delay=timedelta(days=3))
    mark_pending(Order(customer=customer), Order.needs_label)
    mark_pending(Order(customer=customer), Shipped.needs_label)
    mark_pending(Customer.select(), Customer.needs_greeting)
    paying = Customer.select().where(Customer.greeting.is_null()).limit(10)
    mark_pending(paying, Customer.needs_greeting)
    mark_pending(paying | Customer.select(), Customer.needs_greeting)
    unmark(customer, Customer.needs_greeting)
    greet(customer)
    return customer


async def remind(order: Order) -> int:
    await unmark_async(order, Order.needs_receipt)
    return await mark_pending_async(order, Order.needs_receipt)


def due(flag: PendingFlag[Order]) -> list[Order]:
    return list(Order.select().where(flag).order_by(flag.due))


due(Order.needs_receipt)
