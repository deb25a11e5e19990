"""Small models with flags, of every shape; no test depends on the example."""

from __future__ import annotations

import uuid

from peewee import (
    CharField,
    CompositeKey,
    ForeignKeyField,
    IntegerField,
    TextField,
    UUIDField,
)

from models import PendingFlag, PendingModel


class Shipped(PendingModel):
    """An abstract base with a flag."""

    needs_label = PendingFlag()


class Order(Shipped):
    """Two flags, one of them inherited; an integer key."""

    customer = CharField(default="dan")
    total = IntegerField(default=0)
    needs_receipt = PendingFlag()


class Line(PendingModel):
    """A child of an order."""

    order = ForeignKeyField(Order, backref="lines")
    text = TextField(default="")
    needs_stock = PendingFlag()


class Ticket(PendingModel):
    """A UUID for a key."""

    id = UUIDField(primary_key=True, default=uuid.uuid4)
    needs_print = PendingFlag()


class Page(PendingModel):
    """A text for a key, and names that need quotes."""

    path = CharField(primary_key=True, max_length=100)
    needs_index = PendingFlag(column_name="Index it!")

    class Meta:
        table_name = "odd page"


class Seat(PendingModel):
    """A key of two columns."""

    room = CharField(max_length=20)
    number = IntegerField()
    needs_cleaning = PendingFlag()

    class Meta:
        primary_key = CompositeKey("room", "number")


MODELS = [Order, Line, Ticket, Page, Seat]

#: A flag of each kind of key, and how to make a new row of its model.
FLAGS = {
    "integer": (Order.needs_receipt, Order),
    "inherited": (Order.needs_label, Order),
    "uuid": (Ticket.needs_print, Ticket),
    "text": (Page.needs_index, lambda: Page(path="/ä/b?c=1")),
    "composite": (Seat.needs_cleaning, lambda: Seat(room="a", number=1)),
}
