"""The model: the need is a column of the row that it concerns."""

from __future__ import annotations

from peewee import CharField

from models import PendingFlag, PendingModel


class User(PendingModel):
    """Somebody who is to be welcomed, once."""

    email = CharField(unique=True)
    needs_welcome_email = PendingFlag()

    class Meta:
        table_name = "member"  # "user" is the table of this project's own example
