"""Step 1 by bulk writes and upserts: a transition of each row they touch."""

from __future__ import annotations

import pytest
from domain import Order, Page
from looking import IDLE, is_freshly_marked, kind_of, state
from peewee import Case, Value
from steps import HOUR, LEASE, claim_one, marked_and_claimed

from models.claiming import claim, is_due
from models.finishing import finish, release
from models.marking import mark_pending

FLAG = Order.needs_receipt


def test_an_update_of_a_flag_is_a_mark_of_each_row(database):
    rows = [Order.create() for _ in range(3)]
    held = marked_and_claimed(FLAG, rows[0])
    assert Order.update(needs_receipt=True).execute() == 3
    assert state(FLAG, rows[0]).attempts == -1
    assert finish(held)
    assert all(is_freshly_marked(FLAG, row) for row in rows)
    assert Order.update({Order.needs_receipt: False}).execute() == 3
    assert all(state(FLAG, row) == IDLE for row in rows)


def test_an_update_to_an_expression_marks_and_unmarks_row_by_row(database):
    cheap, dear = Order.create(total=1), Order.create(total=100)
    mark_pending(cheap, FLAG)
    Order.update(needs_receipt=Order.total > 10).execute()
    assert state(FLAG, cheap) == IDLE
    assert is_freshly_marked(FLAG, dear)


def test_an_update_to_an_expression_of_the_flag_itself_sees_it_as_it_was(database):
    pending, idle = Order.create(needs_receipt=True), Order.create()
    Order.update(needs_receipt=~FLAG).execute()
    assert state(FLAG, pending) == IDLE
    assert is_freshly_marked(FLAG, idle)


def test_a_row_unmarked_by_an_expression_is_clean(database):
    """Also of the error that its last attempt left."""
    row = Order.create()
    assert release(marked_and_claimed(FLAG, row), wait=HOUR, error="boom")
    Order.update(needs_receipt=Order.total >= 0).execute()
    assert state(FLAG, row).error == "boom"
    Order.update(needs_receipt=Order.total < 0).execute()
    assert state(FLAG, row) == IDLE


def test_a_companion_given_expressly_keeps_its_value(database):
    row = Order.create()
    Order.update({FLAG: True, FLAG.due: 7}).execute()
    assert (state(FLAG, row).flag, state(FLAG, row).due) == (True, 7)
    data = {Order.customer: "eve", Order.total: 1, FLAG: True, FLAG.due: 8}
    Order.insert(data).execute()
    other = state(FLAG, Order.get(Order.customer == "eve"))
    assert other.due == 8 < other.at


def insert_dictionaries():
    Order.insert_many(
        [{"customer": "a", "needs_receipt": True}, {"customer": "b"}]
    ).execute()


def insert_tuples():
    Order.insert_many(
        [("a", True), ("b", False)], fields=[Order.customer, FLAG]
    ).execute()


def insert_tuples_with_names():
    Order.insert_many(
        [("a", True), ("b", False)], fields=["customer", "needs_receipt"]
    ).execute()


def insert_whole_tuples():
    """In the order of the columns that are the application's own."""
    Order.insert_many([(False, "a", 0, True), (False, "b", 0, False)]).execute()


def bulk_create():
    Order.bulk_create([Order(customer="a", needs_receipt=True), Order(customer="b")])


def bulk_create_in_batches():
    orders = [Order(customer="b"), Order(customer="a", needs_receipt=True)]
    Order.bulk_create(orders, batch_size=1)


def insert_one_by_one():
    Order.insert({Order.customer: "a", FLAG: True}).execute()
    Order.insert(customer="b").execute()


def insert_expressions():
    Order.insert(customer="a", needs_receipt=Value(3) > 2).execute()
    Order.insert(customer="b", needs_receipt=Value(1) > 2).execute()


@pytest.mark.parametrize(
    "insert",
    [
        insert_dictionaries,
        insert_tuples,
        insert_tuples_with_names,
        insert_whole_tuples,
        bulk_create,
        bulk_create_in_batches,
        insert_one_by_one,
        insert_expressions,
    ],
)
def test_inserted_rows_are_due_or_idle_and_clean(database, insert, bells):
    insert()
    assert is_freshly_marked(FLAG, Order.get(Order.customer == "a"))
    assert state(FLAG, Order.get(Order.customer == "b")) == IDLE
    assert FLAG.label in bells
    assert Order.needs_label.label not in bells


def test_rows_inserted_from_a_query_are_due(database):
    for customer in "ab":
        Page.create(path=customer, needs_index=customer == "a")
    source = Page.select(Page.path, 1, Page.needs_index)
    Order.insert_from(source, [Order.customer, Order.total, FLAG]).execute()
    claims = claim(FLAG, limit=5, lease=LEASE)
    assert [held.row.customer for held in claims] == ["a"]
    assert state(FLAG, claims[0].row).at > 0
    assert state(FLAG, Order.get(Order.customer == "b")) == IDLE


def test_a_bulk_update_is_a_transition_of_each_row(database):
    held_row, idle, pending = (Order.create() for _ in range(3))
    held = marked_and_claimed(FLAG, held_row)
    mark_pending(pending, FLAG)
    rows = [Order.get_by_id(row.id) for row in (held_row, idle, pending)]
    for row, value in zip(rows, (True, True, False), strict=True):
        row.needs_receipt = value
    assert Order.bulk_update(rows, [Order.needs_receipt]) == 3
    assert state(FLAG, held_row).attempts == -1
    assert is_freshly_marked(FLAG, idle)
    assert state(FLAG, pending) == IDLE
    assert finish(held)
    assert is_freshly_marked(FLAG, held_row)


def test_an_update_by_case_is_a_transition_of_each_row(database):
    row, other = Order.create(), Order.create(needs_receipt=True)
    cases = Case(Order.id, [(row.id, True), (other.id, False)])
    Order.update({FLAG: cases}).execute()
    assert is_freshly_marked(FLAG, row)
    assert state(FLAG, other) == IDLE


def test_get_or_create_marks_what_it_creates_and_nothing_else(database):
    _, made = Page.get_or_create(path="a", defaults={"needs_index": True})
    assert made
    held = claim_one(Page.needs_index)
    _, made = Page.get_or_create(path="a", defaults={"needs_index": True})
    assert not made
    assert finish(held)
    assert not is_due(Page.needs_index)


def upsert(database, query, **options):
    if kind_of(database) != "mysql":
        options["conflict_target"] = [Page.path]
    query.on_conflict(**options).execute()


def preserving(database, value):
    upsert(database, Page.insert(path="a", needs_index=value), preserve=["needs_index"])


def updating(database, value):
    upsert(database, Page.insert(path="a"), update={Page.needs_index: value})


def updating_by_expression(database, value):
    expression = Page.path == ("a" if value else "z")
    upsert(database, Page.insert(path="a"), update={"needs_index": expression})


@pytest.mark.parametrize("way", [preserving, updating, updating_by_expression])
def test_an_upsert_is_a_transition_of_the_row_it_finds(database, way, bells):
    row = Page.create(path="a")
    way(database, True)
    assert is_freshly_marked(Page.needs_index, row)
    assert bells == [Page.needs_index.label]
    held = claim_one(Page.needs_index)
    way(database, True)
    assert state(Page.needs_index, row).attempts == -1
    assert finish(held)
    assert is_due(Page.needs_index)
    way(database, False)
    assert state(Page.needs_index, row) == IDLE


@pytest.mark.parametrize("way", [preserving, updating])
def test_an_upsert_of_a_false_flag_keeps_the_lease(database, way):
    row = Page.create(path="a")
    held = marked_and_claimed(Page.needs_index, row)
    way(database, False)
    assert state(Page.needs_index, row).lease == held.token
    assert finish(held)


def test_many_upserts_in_one_statement_are_transitions(database):
    for path in "ab":
        Page.create(path=path, needs_index=path == "b")
    rows = [{"path": path, "needs_index": path != "b"} for path in "abc"]
    upsert(database, Page.insert_many(rows), preserve=[Page.needs_index])
    claims = claim(Page.needs_index, limit=9, lease=LEASE)
    assert sorted(held.row.path for held in claims) == ["a", "c"]


def test_an_upsert_that_ignores_the_conflict_marks_nothing(database):
    row = Page.create(path="a")
    Page.insert(path="a", needs_index=True).on_conflict_ignore().execute()
    assert state(Page.needs_index, row) == IDLE


def test_an_upsert_of_other_fields_leaves_the_flag_alone(database):
    row = Page.create(path="a")
    held = marked_and_claimed(Page.needs_index, row)
    before = state(Page.needs_index, row)
    upsert(database, Page.insert(path="a"), preserve=[Page.path])
    assert state(Page.needs_index, row) == before
    assert finish(held)


def test_a_replaced_row_is_due(database):
    """PostgreSQL has no REPLACE; peewee says so itself."""
    row = Page.create(path="a")
    query = Page.insert(path="a", needs_index=True)
    if kind_of(database) == "postgresql":
        with pytest.raises(ValueError, match="Postgresql"):
            query.on_conflict_replace().execute()
        return
    Page.replace(path="a", needs_index=True).execute()
    assert is_freshly_marked(Page.needs_index, row)
    Page.replace_many([{"path": "a", "needs_index": False}]).execute()
    assert state(Page.needs_index, row) == IDLE
