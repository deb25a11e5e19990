"""The probe and the claim cost what is pending, not what the table holds."""

from __future__ import annotations

import json

import pytest
from domain import Order
from looking import kind_of, only, run_sql
from peewee import Entity
from steps import HOUR, LEASE

from models.claiming import claim, is_due, renew
from models.counting import numbers
from models.finishing import finish, finish_all
from models.listing import listed
from models.marking import mark_pending
from models.states import State

FLAG = Order.needs_receipt
INDEX = "order_needs_receipt"  # MySQL's begins alike, and goes on with the flag


@pytest.fixture
def large_table(database):
    """20,000 idle rows and five due ones, of which the database has statistics."""
    Order.insert_many([{"total": n, "customer": "a"} for n in range(20)]).execute()
    table, columns = Entity("order"), "(customer, total)"
    for _ in range(10):
        copies = ("SELECT customer, total FROM", table)
        run_sql(database, "INSERT INTO", table, columns, *copies)
    mark_pending(Order.select().limit(5), FLAG)
    analyze(database)
    yield database
    Order.delete().execute()


def analyze(database):
    """Bring the database's statistics up to date."""
    database.execute_sql(
        "ANALYZE TABLE `order`" if kind_of(database) == "mysql" else "ANALYZE"
    )


def plans(database, act):
    """Do `act`, and return how the database goes about each of its statements."""
    sent = []

    def hook(event):
        if not event.sql.startswith(("SAVEPOINT", "RELEASE")):
            sent.append((event.sql, event.params))

    database.query_hooks.append(hook)
    try:
        act()
    finally:
        database.query_hooks.remove(hook)
    return [_explain(database, sql, params) for sql, params in sent]


def _explain(database, sql, params):
    """One line of text for each access to a table."""
    explain = {
        "sqlite": "EXPLAIN QUERY PLAN ",
        "postgresql": "EXPLAIN ",
        "mysql": "EXPLAIN ",
    }[kind_of(database)]
    rows = database.execute_sql(explain + sql, params).fetchall()
    if kind_of(database) == "sqlite":
        return [row[3] for row in rows]
    if kind_of(database) == "postgresql":
        return [row[0] for row in rows]
    return [json.dumps(row[3:7]) for row in rows]  # type, possible keys, key


def assert_index_only(plan):
    """The pending rows come from the index; nothing reads the whole table."""
    text = "\n".join(plan)
    assert INDEX in text, text
    if any("Index Scan" in line for line in plan):  # PostgreSQL: and not all of it
        assert "Index Cond: (needs_receipt_due <=" in text, text
    for line in plan:
        assert "Seq Scan" not in line, text
        assert not line.startswith("SCAN order"), text
        # MySQL's types of access: the whole table, the whole index.
        assert '"ALL"' not in line, text
        assert '"index"' not in line, text


def test_the_probe_reads_the_index_of_the_flag(large_table):
    (plan,) = plans(large_table, lambda: is_due(FLAG))
    assert_index_only(plan)


def test_the_probe_reads_the_index_when_nothing_is_due(large_table):
    for held in claim(FLAG, limit=9, lease=LEASE):
        assert finish(held)
    (plan,) = plans(large_table, lambda: is_due(FLAG))
    assert_index_only(plan)


def test_the_probe_reads_the_index_when_many_are_scheduled(large_table):
    mark_pending(Order.select().limit(5_000), FLAG, delay=HOUR)
    (plan,) = plans(large_table, lambda: is_due(FLAG))
    assert_index_only(plan)


def test_the_claim_picks_from_the_index_of_the_flag(large_table):
    picking, *rest = plans(large_table, lambda: claim(FLAG, limit=3, lease=LEASE))
    assert_index_only(picking)
    for plan in rest:  # MySQL takes the picked rows by their key
        assert '"ALL"' not in "\n".join(plan)


def test_the_claim_goes_to_its_rows_by_the_key_when_many_are_known_to_be_due(
    large_table,
):
    """Statistics that know of them, as autovacuum's do amid a long drain."""
    mark_pending(Order.select(), FLAG)
    analyze(large_table)
    for plan in plans(large_table, lambda: claim(FLAG, limit=3, lease=LEASE)):
        text = "\n".join(plan)
        assert "Seq Scan" not in text, text
        assert "SCAN order" not in text, text
        assert '"ALL"' not in text, text


@only("postgresql")
def test_a_claim_says_once_not_to_wait_for_the_disk(large_table):
    """And not for each of its rows."""
    (plan,) = plans(large_table, lambda: claim(FLAG, limit=3, lease=LEASE))
    assert any("One-Time Filter" in line for line in plan), plan


def test_a_claim_that_finds_nothing_reads_the_index(large_table):
    claim(FLAG, limit=9, lease=LEASE)
    picking, *_ = plans(large_table, lambda: claim(FLAG, limit=3, lease=LEASE))
    assert_index_only(picking)


def test_renewals_and_ends_go_to_their_rows_by_the_key(large_table):
    claims = claim(FLAG, limit=5, lease=LEASE)
    acts = plans(large_table, lambda: renew(FLAG, claims, lease=LEASE))
    acts += plans(large_table, lambda: finish(claims[0]))
    acts += plans(large_table, lambda: mark_pending(claims[1].row, FLAG))
    key = {"sqlite": "PRIMARY KEY", "postgresql": "order_pkey", "mysql": "PRIMARY"}
    assert len(acts) >= 3
    for plan in acts:
        text = "\n".join(plan)
        assert key[kind_of(large_table)] in text, text
        assert "Seq Scan" not in text
        assert '"ALL"' not in text


def test_many_ends_at_once_go_to_their_rows_by_the_key(large_table):
    mark_pending(Order.select(), FLAG)
    claims = claim(FLAG, limit=500, lease=LEASE)
    analyze(large_table)
    for held in claims:
        held.row.total += 1
    ends = plans(large_table, lambda: finish_all(claims))
    key = {"sqlite": "PRIMARY KEY", "postgresql": "order_pkey", "mysql": "PRIMARY"}
    text = "\n".join("\n".join(plan) for plan in ends)
    assert key[kind_of(large_table)] in text, text
    assert "Seq Scan" not in text, text
    assert "SCAN order" not in text, text
    assert '"ALL"' not in text, text


@pytest.mark.parametrize(
    "look",
    [
        lambda: numbers(FLAG),
        *(lambda one=one: listed(FLAG, one) for one in State if one is not State.IDLE),
    ],
    ids=["numbers", *(one.value for one in State if one is not State.IDLE)],
)
def test_counting_and_listing_read_the_index_of_the_flag(large_table, look):
    mark_pending(Order.select().limit(4_000), FLAG)
    looks = plans(large_table, look)
    text = "\n".join("\n".join(plan) for plan in looks)
    assert INDEX in text, text
    assert 'Seq Scan on "order"' not in text, text
    assert "SCAN order" not in text, text
