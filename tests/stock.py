"""The models of an application that is in trouble."""

from __future__ import annotations

from peewee import CharField, IntegerField

from models import PendingFlag, PendingModel


class Task(PendingModel):
    """Its handler does what its name says (`deeds`)."""

    name = CharField()
    runs = IntegerField(default=0)
    done_by = IntegerField(null=True)
    needs_work = PendingFlag()


class Parcel(PendingModel):
    """Another table, another flag, a handler that is atomic."""

    name = CharField()
    runs = IntegerField(default=0)
    needs_label = PendingFlag()


class Crate(PendingModel):
    """One of hundreds; its handler is of the kind that the test wants."""

    name = CharField()
    runs = IntegerField(default=0)
    needs_packing = PendingFlag()


class Entry(PendingModel):
    """What the handlers write beside their rows."""

    text = CharField()


MODELS = [Task, Parcel, Crate, Entry]
