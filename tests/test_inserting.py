"""Inserts whose SQL was built before say and return what peewee's own do."""

from __future__ import annotations

import pytest
from domain import Line, Order
from looking import is_freshly_marked, only
from peewee import SqliteDatabase
from steps import LEASE

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
