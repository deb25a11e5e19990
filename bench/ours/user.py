"""The users that are welcomed, with their flag."""

from __future__ import annotations

from peewee import CharField, DoubleField

from models import PendingFlag, PendingModel


class User(PendingModel):
    """`welcomed_at` is seconds since the epoch, this machine's clock."""

    email = CharField()
    welcomed_at = DoubleField(null=True)
    needs_welcome = PendingFlag()

    class Meta:
        table_name = "users"
