"""What the shop knows, in the database of DATABASE_URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peewee import CharField, DateTimeField, ForeignKeyField, IntegerField, TextField

from models import PendingFlag, PendingModel


class Product(PendingModel):
    """What is sold. Prices are in cents."""

    name = CharField(unique=True)
    description = TextField(default="")
    price = IntegerField()
    needs_indexing = PendingFlag(help_text="the search has an older version, or none")


class Order(PendingModel):
    """What somebody bought. The total is in cents; `webhook` is told of it."""

    product = ForeignKeyField(Product)
    email = CharField()
    quantity = IntegerField()
    total = IntegerField()
    receipt_sent_at = DateTimeField(null=True)
    webhook = CharField(null=True)
    needs_receipt = PendingFlag(help_text="a mail to the customer")
    needs_webhook = PendingFlag(help_text="the customer's own system is to be told")

    if TYPE_CHECKING:
        product_id: int  # peewee's, of the foreign key


TABLES = [Product, Order]
