"""Step 1, mark: every row of a query, by one statement, on every database."""

from __future__ import annotations

import pytest
from domain import Line, Order, Page, Seat, Ticket
from elsewhere import in_threads
from looking import IDLE, is_freshly_marked, state, statements
from peewee import fn
from steps import HOUR, LEASE, claim_one

from models.claiming import claim, is_due
from models.finishing import finish
from models.marking import mark_pending, unmark

FLAG = Order.needs_receipt


def totals():
    """The totals of the pending orders, in their order."""
    pending = Order.select(Order.total).where(FLAG).order_by(Order.total)
    return [total for (total,) in pending.tuples()]


@pytest.fixture
def orders(database):
    """Five orders, with totals from 0 to 4."""
    rows = [{"customer": "dan", "total": total} for total in range(5)]
    Order.insert_many(rows).execute()
    return list(Order.select().order_by(Order.total))


def test_a_query_however_large_is_marked_by_one_statement(database, bells):
    for _ in range(4):
        Ticket.insert_many([{"id": Ticket.id.default()} for _ in range(250)]).execute()
    with statements(database) as sent:
        assert mark_pending(Ticket.select(), Ticket.needs_print) == 1000
    assert len(sent) == 1
    assert bells == [Ticket.needs_print.label]
    assert len(claim(Ticket.needs_print, limit=1001, lease=LEASE)) == 1000
    with statements(database) as sent:
        assert unmark(Ticket.select(), Ticket.needs_print) == 1000
    assert len(sent) == 1


def test_a_condition_marks_what_it_holds_for(orders):
    assert mark_pending(Order.select().where(Order.total > 2), FLAG) == 2
    assert totals() == [3, 4]
    assert is_freshly_marked(FLAG, orders[4])
    assert state(FLAG, orders[0]) == IDLE


def test_a_condition_on_the_flag_itself_is_seen_as_it_was(orders):
    mark_pending(orders[1], FLAG)
    assert mark_pending(Order.select().where(~FLAG), FLAG) == 4
    assert mark_pending(Order.select().where(~FLAG), FLAG) == 0


def test_rows_that_are_pending_already_count(orders):
    mark_pending(orders[0], FLAG)
    assert mark_pending(Order.select(), FLAG) == 5
    assert mark_pending(Order.select(), FLAG) == 5


def test_a_query_of_no_rows_marks_none_and_rings_no_bell(orders, bells):
    assert mark_pending(Order.select().where(Order.total > 9), FLAG) == 0
    assert unmark(Order.select(), FLAG) == 0
    assert bells == []


def test_a_limit_and_an_order_are_kept(orders):
    query = Order.select().order_by(Order.total.desc())
    assert mark_pending(query.limit(2), FLAG) == 2
    assert totals() == [3, 4]
    assert mark_pending(query.limit(1).offset(3), FLAG) == 1
    assert totals() == [1, 3, 4]


def test_a_limit_counts_rows_of_the_query_also_when_unmarking(orders):
    mark_pending(Order.select().where(Order.total >= 1), FLAG)
    assert unmark(Order.select().order_by(Order.total).limit(2), FLAG) == 1
    assert totals() == [2, 3, 4]


def test_a_join_marks_a_row_once(orders):
    for text in ("a", "b"):
        Line.create(order=orders[1], text=text)
    joined = Order.select().join(Line)
    assert mark_pending(joined, FLAG) == 1
    assert mark_pending(joined.distinct(), FLAG) == 1
    assert totals() == [1]
    other_side = Line.select(Line, Order).join(Order).where(Order.total == 1)
    assert mark_pending(other_side, Line.needs_stock) == 2
    assert unmark(joined, FLAG) == 1


def test_a_group_with_a_condition_is_marked(orders):
    for number in (1, 2, 2):
        Line.create(order=orders[number])
    busy = Order.select(Order.id).join(Line).group_by(Order.id)
    assert mark_pending(busy.having(fn.COUNT(Line.id) > 1), FLAG) == 1
    assert totals() == [2]


def test_a_union_marks_a_row_once(orders):
    low = Order.select().where(Order.total < 2)
    odd = Order.select().where(Order.total.in_([1, 3]))
    assert mark_pending(low | odd, FLAG) == 3
    assert totals() == [0, 1, 3]
    assert unmark(low | odd, FLAG) == 3
    assert totals() == []


def test_a_union_unmarks_nothing_else(orders):
    mark_pending(Order.select(), FLAG)
    low = Order.select().where(Order.total < 1)
    odd = Order.select().where(Order.total.in_([1, 3]))
    assert unmark(low | odd, FLAG) == 3
    assert totals() == [2, 4]


def test_a_subquery_of_the_same_table_marks_what_it_holds_for(orders):
    average = Order.select(fn.AVG(Order.total))
    assert mark_pending(Order.select().where(Order.total > average), FLAG) == 2
    assert totals() == [3, 4]


def test_rows_with_a_composite_key_are_marked(database):
    for room in "ab":
        for number in (1, 2):
            Seat.create(room=room, number=number)
    query = Seat.select().order_by(Seat.room, Seat.number.desc())
    assert mark_pending(query.limit(1), Seat.needs_cleaning) == 1
    held = claim_one(Seat.needs_cleaning)
    assert held.key == ("a", 2)
    assert finish(held)
    union = Seat.select().where(Seat.room == "a") | Seat.select().where(
        Seat.number == 1
    )
    assert mark_pending(union, Seat.needs_cleaning) == 3
    assert unmark(union, Seat.needs_cleaning) == 3


def test_odd_names_are_quoted(database):
    for path in ("a", "b"):
        Page.create(path=path)
    assert mark_pending(Page.select().limit(1), Page.needs_index) == 1
    union = Page.select() | Page.select().where(Page.path == "a")
    assert mark_pending(union, Page.needs_index) == 2


def test_a_query_may_be_due_later(orders):
    assert mark_pending(Order.select(), FLAG, delay=HOUR) == 5
    assert not is_due(FLAG)
    assert state(FLAG, orders[0]).due - state(FLAG, orders[0]).at == 3_600_000


def test_queries_that_mark_the_same_rows_from_both_ends_never_deadlock(database):
    Order.insert_many([{"total": n, "customer": "a"} for n in range(300)]).execute()
    orders = [Order.total, Order.total.desc()]

    def mark_again_and_again(number):
        query = Order.select().order_by(orders[number % 2])
        return [mark_pending(query, FLAG) for _ in range(10)]

    assert in_threads(database, 4, mark_again_and_again) == [[300] * 10] * 4
