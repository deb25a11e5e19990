"""Its database and its models."""

from __future__ import annotations

import os

from peewee import CharField, ForeignKeyField, IntegerField
from playhouse.db_url import connect

from models import PendingFlag, PendingModel

database = connect(os.environ["LENDING_DATABASE"])


class Table(PendingModel):
    class Meta:
        database = database


class Member(Table):
    name = CharField(max_length=50, unique=True)
    greeting = CharField(null=True)
    needs_greeting = PendingFlag()


class Book(Table):
    title = CharField()
    needs_indexing = PendingFlag()


class Loan(Table):
    member = ForeignKeyField(Member)
    book = ForeignKeyField(Book)
    needs_reminder = PendingFlag()
    needs_fee = PendingFlag()
    needs_receipt = PendingFlag()


class Fee(Table):
    loan = ForeignKeyField(Loan)
    cents = IntegerField()


class Letter(Table):
    """What was sent, so that it is sent once."""

    key = CharField(max_length=100, unique=True)


class Shelf(Table):
    """Nobody works for its flag."""

    needs_dusting = PendingFlag()


TABLES = [Member, Book, Loan, Fee, Letter, Shelf]
