"""Writes whose SQL was built before do what peewee's own would."""

from __future__ import annotations

import uuid
from contextlib import suppress

import peewee
import pytest
from domain import Line, Order, Page, Seat, Ticket
from looking import IDLE, is_freshly_marked, kind_of, state
from peewee import ModelInsert, ModelUpdate, fn
from steps import LEASE, claim_one

from models import PendingFlag, PendingModel
from models.claiming import claim
from models.finishing import finish
from models.marking import mark_pending
from models.writing import transitions_for, with_due_times

RECEIPT, LABEL = Order.needs_receipt, Order.needs_label


@pytest.mark.parametrize("both", [(True, False), (False, True), (True, True)])
def test_two_flags_of_one_insert_are_each_its_own(database, both):
    label, receipt = both
    values = {"customer": "a", "total": 3}
    Order.insert(needs_label=label, needs_receipt=receipt, **values).execute()
    row = Order.get()
    assert (row.needs_label, row.needs_receipt) == both
    made = Order.create(needs_label=label, needs_receipt=receipt, **values)
    found = Order.get_by_id(made.id)
    assert (found.needs_label, found.needs_receipt) == both
    for flag, value in zip((LABEL, RECEIPT), both, strict=True):
        assert is_freshly_marked(flag, row) if value else state(flag, row) == IDLE


@pytest.mark.parametrize("both", [(True, False), (False, True), (True, True)])
def test_two_flags_of_one_save_are_each_its_own(database, both):
    row = Order.create(needs_label=True, needs_receipt=True)
    row.needs_label, row.needs_receipt = both
    row.save()
    found = Order.get_by_id(row.id)
    assert (found.needs_label, found.needs_receipt) == both


@pytest.mark.parametrize("both", [(True, False), (False, True), (True, True)])
def test_two_flags_of_one_update_are_each_its_own(database, both):
    row = Order.create(needs_label=True, needs_receipt=True)
    values = {"needs_label": both[0], "needs_receipt": both[1]}
    assert Order.update(**values).where(Order.id == row.id).execute() == 1
    found = Order.get_by_id(row.id)
    assert (found.needs_label, found.needs_receipt) == both
    for flag, value in zip((LABEL, RECEIPT), both, strict=True):
        assert value or state(flag, row) == IDLE


UPDATES = {
    "plain": lambda: (Order, {"total": 4}, Order.id == 1),
    "same field": lambda: (Order, {"customer": "b"}, Order.customer == "a"),
    "flag": lambda: (Order, {"needs_receipt": True, "total": 1}, Order.id == 1),
    "no flag": lambda: (Order, {"needs_receipt": False}, Order.id == 1),
    "expression": lambda: (Order, {"total": Order.total + 1}, Order.id == 1),
    "null": lambda: (Line, {"text": None}, Line.id == 1),
    "foreign key": lambda: (Line, {"order": 5}, Line.order == 7),
    "foreign row": lambda: (Line, {"order": Order(id=5)}, Line.order == Order(id=7)),
    "uuid": lambda: (Ticket, {"needs_print": True}, Ticket.id == uuid.UUID(int=1)),
    "odd": lambda: (Page, {"needs_index": True}, Page.path == "%s ' \" $1"),
    "two": lambda: (Seat, {"room": "b"}, (Seat.room == "a") & (Seat.number == 1)),
    "not": lambda: (Order, {"total": 4}, ~(Order.id == 1)),
    "is null": lambda: (Order, {"total": 4}, Order.id == None),  # noqa: E711
    "among": lambda: (Order, {"total": 4}, Order.id.in_([1, 2])),
    "field": lambda: (Order, {"total": 4}, Order.id == Order.total),
    "turned": lambda: (Order, {"total": 4}, 1 == Order.id),  # noqa: SIM300
    "bool": lambda: (Order, {"total": 4}, Order.needs_label == True),  # noqa: E712
    "companion": lambda: (Order, {RECEIPT: True, RECEIPT.due: 8}, Order.id == 1),
}


def sent(database, query):
    """Run `query`; return the statement and its parameters, as the driver had them."""
    events = []
    database.query_hooks.append(events.append)
    try:
        with suppress(peewee.PeeweeException):  # a foreign key that leads nowhere
            query.execute()
    finally:
        database.query_hooks.remove(events.append)
    ((sql, params),) = [(event.sql, list(event.params)) for event in events]
    return sql, params


@pytest.mark.parametrize("kind", UPDATES)
def test_an_update_says_what_peewee_would(database, kind):
    model, values, where = UPDATES[kind]()
    data = model._normalize_data(values, {})
    plain = ModelUpdate(model, transitions_for(data)).where(where).sql()
    for _ in range(2):  # the second time it is known
        update = model.update(values).where(where)
        assert update.sql() == sent(database, update) == plain


INSERTS = {
    "plain": lambda: (Order, {"customer": "a", "total": 4, **NEITHER}),
    "flag": lambda: (Order, {"customer": "a", "total": 4, **NEITHER, **MARKED}),
    "defaults": lambda: (Order, {"customer": "a"}),
    "nothing": lambda: (Order, {}),
    "its key": lambda: (Order, {"id": 77, "customer": "a", "total": 4, **NEITHER}),
    "expression": lambda: (Order, {"total": fn.ABS(-4), "customer": "a", **NEITHER}),
    "foreign key": lambda: (Line, {"order": 5, "text": None, "needs_stock": True}),
    "foreign row": lambda: (Line, {"order": Order(id=5), "needs_stock": True}),
    "uuid": lambda: (Ticket, {"id": uuid.UUID(int=3), "needs_print": True}),
    "two": lambda: (Seat, {"room": "b", "number": 2}),
}
NEITHER = {"needs_label": False, "needs_receipt": False}
MARKED = {"needs_receipt": True}


@pytest.mark.parametrize("kind", INSERTS)
def test_an_insert_says_what_peewee_would(database, kind):
    model, values = INSERTS[kind]()
    data = model._normalize_data(values, {})
    plain = ModelInsert(model, with_due_times(data)).sql()
    for _ in range(2):
        insert = model.insert(values)
        assert insert.sql() == sent(database, insert) == plain


KEYS = {
    "integer": (Order, [{"customer": "a", "total": 1, **NEITHER} for _ in range(2)]),
    "uuid": (Ticket, [{"id": uuid.uuid4(), "needs_print": True} for _ in range(2)]),
    "text": (Page, [{"path": path, "needs_index": True} for path in ("/a", "/b")]),
    "two": (Seat, [{"room": room, "number": 1} for room in ("a", "b")]),
}


@pytest.mark.parametrize("kind", KEYS)
def test_an_insert_returns_what_peewee_s_own_does(database, kind):
    """The key where the database tells it, and else whatever the driver says."""
    model, (one, other) = KEYS[kind]
    ours = model.insert(one).execute()
    data = with_due_times(model._normalize_data(other, {}))
    theirs = ModelInsert(model, data).execute()
    assert type(ours) is type(theirs)
    if kind_of(database) == "postgresql":
        assert [model.get_by_id(key)._pk for key in (ours, theirs)] == [ours, theirs]
        assert ours != theirs


def test_an_update_inside_another_query_is_that_update(database):
    """A known statement must not leave out what stands around it."""
    rows = [Order.create(total=n) for n in range(3)]
    ids = Order.select(Order.id).where(Order.total < 2)
    assert Order.update(needs_receipt=True).where(Order.id.in_(ids)).execute() == 2
    claims = claim(RECEIPT, limit=9, lease=LEASE)
    assert {held.row for held in claims} == set(rows[:2])


def test_a_save_of_a_row_that_is_held_is_a_mark_of_a_held_row(database):
    row = Order.create(needs_receipt=True)
    held = claim_one(RECEIPT)
    row.needs_receipt = True
    row.save()
    assert state(RECEIPT, row).attempts == -1
    assert finish(held)
    assert finish(claim_one(RECEIPT))
    mark_pending(row, RECEIPT)
    assert is_freshly_marked(RECEIPT, row)


class Email(peewee.CharField):
    """Compares without case."""

    __hash__ = peewee.CharField.__hash__

    def __eq__(self, other):
        return super().__eq__(other.lower())


class Slug(peewee.CharField):
    """Lower in the database, by the database."""

    def to_value(self, value):
        return fn.LOWER(peewee.Value(value))


class Post(PendingModel):
    """Its fields have ways of their own."""

    author = Email()
    slug = Slug(null=True)
    needs_index = PendingFlag()


INDEX = Post.needs_index


def test_fields_that_compare_and_convert_by_themselves(database):
    with database.bind_ctx([Post]):
        database.create_tables([Post])
        Post.create(author="dan@example.com", needs_index=True)
        update = Post.update(slug="ABC").where(Post.author == "Dan@Example.com")
        assert (update.execute(), Post.get().slug) == (1, "abc")
        update = Post.update(needs_index=False).where(Post.author == "DAN@example.com")
        assert (update.execute(), Post.get().needs_index) == (1, False)
        database.drop_tables([Post])


def test_a_value_that_the_first_row_lacks_is_inserted(database):
    with database.bind_ctx([Post]):
        database.create_tables([Post])
        rows = [{"author": "a", "needs_index": True}, {"author": "b", "slug": "x"}]
        Post.insert_many(rows, fields=[Post.author, Post.slug, INDEX]).execute()
        rows = [{"author": "c", "slug": None, "needs_index": True}]
        Post.insert(rows).execute()
        a, b, c = Post.select().order_by(Post.id)
        assert (a.slug, b.slug, c.slug) == (None, "x", None)
        assert is_freshly_marked(INDEX, a)
        assert is_freshly_marked(INDEX, c)
        assert not b.needs_index
        database.drop_tables([Post])
