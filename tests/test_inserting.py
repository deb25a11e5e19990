"""Inserts whose SQL was built before say and return what peewee's own do."""

from __future__ import annotations

import pytest
from domain import Line, Order
from looking import is_freshly_marked, only
from peewee import SqliteDatabase, fn
from steps import LEASE

from models import writing
from models.claiming import claim
from models.finishing import finish_all

FLAG = Order.needs_receipt
WHOLE = {"customer": "a", "total": 3, "needs_label": False, "needs_receipt": True}


@only("postgresql")
def test_what_an_insert_is_told_to_return_it_returns(database):
    (got,) = Order.insert(**WHOLE).returning(Order.id, Order.total).tuples().execute()
    assert got == (Order.get().id, 3)
    (row,) = Order.insert(**WHOLE).returning(Order).execute()
    assert (row.customer, row.total, row.needs_receipt) == ("a", 3, True)


def test_another_kind_of_database_in_between_changes_nothing(database):
    other = SqliteDatabase(":memory:")
    for _ in range(2):
        assert is_freshly_marked(FLAG, Order.create(needs_receipt=True, customer="é"))
        with other.bind_ctx([Order]):
            other.create_tables([Order])
            row = Order.create(needs_receipt=True)
            (held,) = claim(FLAG, limit=5, lease=LEASE)
            held.row.total = 9
            assert finish_all([held]) == [held]
            assert Order.get_by_id(row.id).total == 9
            other.drop_tables([Order])
        row = Order.create(needs_label=True)
        assert is_freshly_marked(Order.needs_label, row)
        assert not Order.get_by_id(row.id).needs_receipt
    other.close()


@pytest.mark.parametrize("flag", [True, False])
def test_a_foreign_key_is_inserted_as_a_row_and_as_a_key(database, flag):
    order = Order.create()
    lines = [Line.create(order=one, needs_stock=flag) for one in (order, order.id)]
    for line in lines:
        found = Line.get_by_id(line.id)
        assert (found.order_id, found.needs_stock) == (order.id, flag)


def test_a_query_for_another_database_speaks_its_language(database):
    other = SqliteDatabase(":memory:")
    with other.bind_ctx([Order]):
        other.create_tables([Order])
        Order.create(customer="a")
    Order.create(customer="a")
    for n in (1, 2):
        assert Order.update(total=0).where(Order.customer == "a").execute() == 1
        assert Order.update(total=n).where(Order.customer == "a").execute(other) == 1
        assert Order.get().total == 0
    other.close()


@pytest.mark.parametrize("order", [(True, False, True), (False, True, False)])
def test_the_key_of_a_new_row_is_known_whatever_the_database_returns(database, order):
    writing._known_insert.cache_clear()
    others = {
        clause: SqliteDatabase(":memory:", returning_clause=clause)
        for clause in (True, False)
    }
    for other in others.values():
        with other.bind_ctx([Order]):
            other.create_tables([Order])
    for clause in order:
        with others[clause].bind_ctx([Order]):
            made = Order.create(**WHOLE)
            assert made.id == Order.select(fn.MAX(Order.id)).scalar()
    for other in others.values():
        other.close()


@only("postgresql")
def test_what_an_insert_has_before_it_is_done(database):
    old = Order.create()
    gone = Order.delete().where(Order.id == old.id).returning(Order.id).cte("gone")
    Order.insert(**WHOLE).with_cte(gone).execute()
    assert [row.customer for row in Order.select()] == ["a"]


@pytest.mark.parametrize(
    "rows",
    [
        [{"customer": "a", "needs_receipt": True}, {"customer": "b", "total": 3}],
        [{"customer": "a", Order.needs_receipt: True}, {"customer": "b", "total": 3}],
        [
            {"customer": "a", "needs_receipt": True, "csv": 1},
            {"customer": "b", "total": 3},
        ],
    ],
)
def test_rows_with_fields_need_not_be_alike(database, rows):
    fields = [Order.customer, Order.total, FLAG]
    Order.insert_many(rows, fields=fields).execute()
    a, b = Order.select().order_by(Order.customer)
    assert (a.total, b.total) == (0, 3)
    assert is_freshly_marked(FLAG, a)
    assert not b.needs_receipt


def test_an_insert_of_a_list_is_one_of_many_rows_and_of_an_empty_one_of_one(database):
    Order.insert(
        [{"customer": "a", "needs_receipt": True}, {"customer": "b"}]
    ).execute()
    a, b = Order.select().order_by(Order.customer)
    assert is_freshly_marked(FLAG, a)
    assert not b.needs_receipt
    Order.insert([]).execute()
    assert Order.select().count() == 3


def test_of_rows_with_fields_nothing_else_is_inserted(database):
    rows = [{"customer": "a", "total": 3, "needs_receipt": True}]
    Order.insert_many(rows, fields=[Order.customer]).execute()
    row = Order.get()
    assert (row.customer, row.total, row.needs_receipt) == ("a", 0, False)
