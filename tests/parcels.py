"""A shop for processes of their own: 100,000 parcels, every state, hostile names.

No test imports it: its models would be everywhere.
"""

from __future__ import annotations

import time

from peewee import CharField, ModelUpdate

from models import NEVER, PendingFlag, PendingModel, database
from models.connection import connected
from models.migrating import migrate
from models.operations import now
from worker import handles

ROWS = 100_000
HOSTILE = (
    "<script>document.title='owned'</script>\"'>"
    "<img src=x onerror=\"document.title='owned'\">\x1b[2J\u202e"
)


class Parcel(PendingModel):
    """A label takes a moment, a pickup three seconds."""

    code = CharField()
    needs_label = PendingFlag()
    needs_pickup = PendingFlag()


class Odd(PendingModel):
    """A name, a key and an error that would like to be more than text."""

    name = CharField(primary_key=True, max_length=200)
    needs_care = PendingFlag()

    class Meta:
        table_name = "odd \"'<b>table</b>"


@handles(Parcel.needs_label)
def label(parcel: Parcel) -> None:
    """Now it works."""
    parcel.code = "labelled"


@handles(Parcel.needs_pickup)
def pickup(parcel: Parcel) -> None:
    """Of 19,000 there are some left while a test looks."""
    time.sleep(3)


def seed() -> None:
    """Make the tables, with rows in every state."""
    migrate(database)
    with connected(database), database.atomic():
        database.create_tables([Parcel, Odd])
        for first in range(0, ROWS, 10_000):
            numbers = range(first, first + 10_000)
            Parcel.insert_many({"code": f"c{n}"} for n in numbers).execute()
        moment = now()
        label, pickup, later = Parcel.needs_label, Parcel.needs_pickup, moment + 10**9
        printer = "OSError: the printer is on fire (/srv/shop/labels.py:9 in label)"
        _write(label, 1, 30, due=NEVER, attempts=10, error=printer)
        _write(label, 31, 50, due=later, attempts=2, error="TimeoutError")
        _write(label, 51, 1_000, due=later)
        _write(pickup, 1_001, 20_000, due=moment - 900_000)
        Odd.create(name=HOSTILE, needs_care=True)
        odd = Odd.needs_care
        changes = {odd.due: NEVER, odd.error: f"{HOSTILE}\n{HOSTILE}"}
        ModelUpdate(Odd, changes).execute()


def _write(flag: PendingFlag, first: int, last: int, **values: object) -> None:
    changes = {getattr(flag, suffix): value for suffix, value in values.items()}
    changes |= {flag: True, flag.at: now() - 7_200_000}
    ModelUpdate(Parcel, changes).where(Parcel.id.between(first, last)).execute()
