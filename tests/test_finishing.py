"""Step 6: the ends of a claim, on every database."""

from __future__ import annotations

from datetime import timedelta

import pytest
from domain import FLAGS, Order

from models import NEVER
from models.claiming import claim, is_due
from models.finishing import finish, give_back, park, postpone, release
from models.marking import mark_pending, unmark

LEASE, HOUR = timedelta(seconds=30), timedelta(hours=1)
IDLE = {
    "at": 0,
    "due": 0,
    "attempts": 0,
    "crashes": 0,
    "until": 0,
    "lease": None,
    "error": None,
}


def columns(flag, row):
    """What the row's companions hold now, by their suffix."""
    row = type(row).select().where(row._pk_expr()).get()
    return {suffix: getattr(row, f.name) for suffix, f in flag.companions.items()}


def marked(flag, row):
    mark_pending(row, flag)
    return claim(flag, limit=1, lease=LEASE)[0]


@pytest.mark.parametrize("kind", FLAGS)
def test_a_finished_row_is_idle_and_clean(database, kind):
    flag, new = FLAGS[kind]
    row = new()
    assert finish(marked(flag, row)) is True
    assert columns(flag, row) == IDLE
    assert not type(row).select().where(row._pk_expr()).get().__data__[flag.name]


def test_the_finish_saves_what_was_assigned_and_nothing_else(database):
    row = Order.create(customer="dan", total=1)
    held = marked(Order.needs_receipt, row)
    Order.update(total=7).where(Order.id == row.id).execute()
    held.row.customer = "eve"
    assert finish(held)
    after = Order.get_by_id(row.id)
    assert (after.customer, after.total, after.needs_receipt) == ("eve", 7, False)


def test_a_lost_lease_ends_nothing(database):
    row = Order.create()
    held = marked(Order.needs_receipt, row)
    Order.update({Order.needs_receipt.lease: 1}).execute()
    before = columns(Order.needs_receipt, row)
    held.row.customer = "zombie"
    assert not finish(held)
    assert not release(held, wait=HOUR, error="late")
    assert not park(held, error="late")
    assert not give_back(held)
    assert columns(Order.needs_receipt, row) == before
    assert Order.get_by_id(row.id).customer == "dan"


def test_a_row_marked_while_held_is_due_again_after_each_end(database):
    flag = Order.needs_receipt
    ends = {
        "finish": finish,
        "release": lambda held: release(held, wait=HOUR, error="x"),
        "postpone": lambda held: postpone(held, wait=HOUR, error="x"),
        "park": lambda held: park(held, error="x"),
        "give back": give_back,
    }
    for name, end in ends.items():
        row = Order.create()
        held = marked(flag, row)
        mark_pending(row, flag)
        assert not is_due(flag), f"{name}: held rows are not due"
        assert end(held), name
        assert is_due(flag), f"{name}: the fresh mark was forgotten"
        assert columns(flag, row)["attempts"] == 0, name
        again = claim(flag, limit=1, lease=LEASE)[0]
        assert finish(again), name
        assert columns(flag, row) == IDLE, f"{name}: exactly one more run"


def test_a_row_unmarked_while_held_is_clean_after_each_end(database):
    flag = Order.needs_receipt
    for end in (finish, lambda held: release(held, wait=HOUR, error="x"), give_back):
        row = Order.create()
        held = marked(flag, row)
        unmark(row, flag)
        assert end(held)
        assert columns(flag, row) == IDLE


def test_release_keeps_the_error_and_the_attempts(database):
    row = Order.create()
    held = marked(Order.needs_receipt, row)
    assert release(held, wait=HOUR, error="boom")
    after = columns(Order.needs_receipt, row)
    assert (after["attempts"], after["error"], after["lease"]) == (1, "boom", None)
    assert after["due"] > after["at"]
    assert not is_due(Order.needs_receipt)


def test_a_parked_row_waits_for_a_mark(database):
    row = Order.create()
    assert park(marked(Order.needs_receipt, row), error="never")
    assert columns(Order.needs_receipt, row)["due"] == NEVER
    assert not is_due(Order.needs_receipt)
    mark_pending(row, Order.needs_receipt)
    assert claim(Order.needs_receipt, limit=1, lease=LEASE)[0].attempt == 1
