"""What people type: names of flags, keys and filters."""

from __future__ import annotations

import uuid

import pytest
from domain import FLAGS, Line, Order, Page, Seat, Ticket

from models import PendingFlag, PendingModel
from models.connection import database_from_url
from models.errors import BadText, NoSuchFlag
from models.finding import (
    filter_fields,
    filtered,
    flag_named,
    flags,
    key_from_text,
    key_text,
    lent_flags,
)
from models.migrating import migrate
from worker.overview import known_flags

KNOWN = [Order.needs_receipt, Order.needs_label, Seat.needs_cleaning]


class Base(PendingModel):
    """Lends its flag, and has no table."""

    needs_lending = PendingFlag()


class Lender(Base):
    """Has a table."""


def test_the_flags_of_all_models_are_known_and_those_of_a_base_apart():
    labels = [flag.label for flag in flags()]
    assert labels == sorted(set(labels))
    assert "lender.needs_lending" in labels
    assert "base.needs_lending" not in labels
    assert "base.needs_lending" in [flag.label for flag in lent_flags()]
    assert flag_named("base.needs_lending") is Base.needs_lending
    assert "base.needs_lending" not in [flag.label for flag in known_flags()]


def test_the_frozen_models_of_migrations_are_nobody_s(server_url):
    before = [flag.label for flag in flags()]
    database = database_from_url(server_url("sqlite"))
    migrate(database)
    assert [flag.label for flag in flags()] == before


def test_a_flag_is_found_by_its_label(database):
    for flag in KNOWN:
        assert flag_named(flag.label, KNOWN) is flag


def test_an_unknown_flag_is_told_with_those_that_are_near(database):
    label = Order.needs_receipt.label
    with pytest.raises(NoSuchFlag, match=r"did you mean .*needs_receipt"):
        flag_named(label.replace("receipt", "reciept"), KNOWN)
    with pytest.raises(NoSuchFlag, match=r"there are .*needs_receipt, .*needs_label"):
        flag_named("qqq", KNOWN)
    with pytest.raises(NoSuchFlag, match="there are none"):
        flag_named("qqq", [])


@pytest.mark.parametrize(
    ("flag", "key", "text"),
    [
        (Order.needs_receipt, (7,), "7"),
        (Ticket.needs_print, (uuid.UUID(int=5),), str(uuid.UUID(int=5))),
        (Page.needs_index, ("/a,b c",), "/a,b c"),
        (Seat.needs_cleaning, ("a", 1), "a,1"),
        (Seat.needs_cleaning, ('a "x", b', 1), '"a ""x"", b",1'),
    ],
)
def test_a_key_is_typed_as_it_is_shown(flag, key, text):
    assert key_text(key) == text
    assert key_from_text(flag, text) == key


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        (Order.needs_receipt, "x"),
        (Order.needs_receipt, ""),
        (Order.needs_receipt, "9" * 30),
        (Ticket.needs_print, "7"),
        (Page.needs_index, "a\0b"),
        (Page.needs_index, "\ud800"),
        (Seat.needs_cleaning, "a"),
        (Seat.needs_cleaning, "a,b"),
        (Seat.needs_cleaning, ""),
    ],
)
def test_what_is_no_key_is_refused(flag, text):
    with pytest.raises(BadText):
        key_from_text(flag, text)


def test_filters_name_the_model_s_fields_and_the_flag_s_own():
    fields = filter_fields(Order.needs_receipt)
    assert set(fields) == {
        *("error", "attempts", "crashes"),
        *("id", "customer", "total", "needs_label", "needs_receipt"),
    }


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ([], {"dan", "eve", "50%"}),
        (["customer=dan"], {"dan"}),
        (["customer=dan", "total=1"], set()),
        (["customer~VE"], {"eve"}),
        (["customer~%"], {"50%"}),
        (["total~1"], {"eve"}),
        (["attempts~0", "id~"], {"dan", "eve", "50%"}),
        (["total=1"], {"eve"}),
        (["needs_label=true"], {"eve"}),
        (["error="], {"dan", "eve", "50%"}),
        (["customer=1=1"], set()),
        (["customer='; DROP TABLE"], set()),
    ],
)
def test_a_row_meets_all_filters(database, filters, found):
    Order.create(customer="dan", needs_receipt=True)
    Order.create(customer="eve", total=1, needs_label=True)
    Order.create(customer="50%")
    where = filtered(Order.needs_receipt, filters)
    query = Order.select().where(*where) if where else Order.select()
    assert {row.customer for row in query} == found


def test_a_filter_may_name_a_foreign_key(database):
    order = Order.create()
    Line.create(order=order)
    (where,) = filtered(Line.needs_stock, [f"order={order.id}"])
    assert Line.select().where(where).count() == 1


@pytest.mark.parametrize(
    "text", ["", "=", "=dan", "customer", "colour=red", "total=x", "needs_label=2"]
)
def test_what_is_no_filter_is_refused(text):
    with pytest.raises(BadText):
        filtered(Order.needs_receipt, [text])


def test_a_misspelt_field_is_told_with_those_that_are_near():
    with pytest.raises(BadText, match="no field 'custmer'; write customer"):
        filtered(Order.needs_receipt, ["custmer=dan"])


@pytest.mark.parametrize("kind", FLAGS)
def test_each_flag_is_found_in_its_database(database, kind):
    flag, _ = FLAGS[kind]
    assert flag_named(flag.label) is flag
