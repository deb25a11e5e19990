"""The reference of marking: Peewee alone, into a table without flags."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from peewee import CharField, DoubleField, Model

from models import database


class BareUser(Model):
    email = CharField()
    welcomed_at = DoubleField(null=True)

    class Meta:
        database = database
        table_name = "bare_users"


def enqueue(emails: Iterable[str], committed: Callable[[], None]) -> None:
    BareUser.create_table()
    for email in emails:
        BareUser.create(email=email)
        committed()
