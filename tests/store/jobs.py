"""Its models and handlers; and an actor that has nothing to do with flags."""

from __future__ import annotations

from typing import Any

import dramatiq
from peewee import CharField, Model

from models import PendingFlag, PendingModel
from store.broker import NAME, broker
from store.database import db
from worker import handles


class Base(Model):
    """What all its models derive from, flags or not."""

    class Meta:
        database = db


class Parcel(Base, PendingModel):
    """A model that was there before it had a flag."""

    street = CharField()
    label = CharField(null=True)
    needs_label = PendingFlag()


@handles(Parcel.needs_label)
def print_label(parcel: Parcel) -> None:
    parcel.label = f"To {parcel.street}"


@dramatiq.actor(queue_name=f"{NAME}.pictures")
def resize(picture: str) -> None:
    print("resized", picture, flush=True)  # noqa: T201


def marked(count: int) -> list[Any]:
    with db.atomic():
        return [Parcel.create(street=n, needs_label=True) for n in range(count)]


__all__ = ["Parcel", "broker", "db", "marked", "resize"]
