"""What simpler versions of the row get wrong, each on every database."""

from __future__ import annotations

import pytest
from domain import Order
from looking import IDLE, is_freshly_marked, run_sql, state, write
from peewee import Entity
from steps import HOUR, LEASE, claim_one, marked_and_claimed

from models.claiming import claim, is_due
from models.finishing import finish, give_back, park, release
from models.marking import mark_pending, unmark

FLAG = Order.needs_receipt


@pytest.fixture
def row(database):
    return Order.create()


# Attempts = 0 as the sign of "marked again".


def test_a_mark_made_while_the_row_is_held_is_not_parked(row):
    held = marked_and_claimed(FLAG, row)
    mark_pending(row, FLAG)
    assert park(held, error="x")
    assert finish(claim_one(FLAG))
    assert state(FLAG, row) == IDLE


def test_a_mark_made_while_the_row_is_held_does_not_wait_for_the_old_back_off(row):
    held = marked_and_claimed(FLAG, row)
    mark_pending(row, FLAG)
    assert release(held, wait=HOUR, error="x")
    assert claim_one(FLAG).attempt == 1


def test_a_row_marked_again_and_given_back_is_run_once_and_not_twice(row):
    held = marked_and_claimed(FLAG, row)
    mark_pending(row, FLAG)
    assert give_back(held)
    assert finish(claim_one(FLAG))
    assert state(FLAG, row) == IDLE


def test_a_handler_that_marks_its_own_row_and_kills_its_process_is_counted(row):
    mark_pending(row, FLAG)
    for crashes in range(4):
        assert claim_one(FLAG).attempt == crashes + 1
        assert state(FLAG, row).crashes == crashes
        mark_pending(row, FLAG)
        write(FLAG, row, until=1)


# Due as the lease's end.


def test_a_delay_given_while_the_row_is_held_is_neither_lost_nor_early(row):
    held = marked_and_claimed(FLAG, row)
    mark_pending(row, FLAG, delay=HOUR)
    promised = state(FLAG, row).due
    assert finish(held)
    after = state(FLAG, row)
    assert (after.flag, after.due, after.attempts) == (True, promised, 0)
    assert not is_due(FLAG)


@pytest.mark.parametrize(
    "end",
    [
        lambda held: release(held, wait=HOUR / 2, error="x"),
        lambda held: park(held, error="x"),
        give_back,
    ],
    ids=["release", "park", "give back"],
)
def test_a_delay_given_while_the_row_is_held_outlasts_a_failure(row, end):
    held = marked_and_claimed(FLAG, row)
    mark_pending(row, FLAG, delay=HOUR)
    promised = state(FLAG, row).due
    assert end(held)
    assert state(FLAG, row).due == promised


def test_a_delayed_mark_of_an_expired_lease_waits_for_its_own_time(row):
    marked_and_claimed(FLAG, row)
    write(FLAG, row, until=1)
    mark_pending(row, FLAG, delay=HOUR)
    assert state(FLAG, row).until == 1
    assert not is_due(FLAG)
    write(FLAG, row, due=1)
    assert claim_one(FLAG).row == row


def test_a_lease_moves_no_due_time_and_a_mark_moves_no_lease(row):
    mark_pending(row, FLAG)
    due = state(FLAG, row).due
    claim_one(FLAG)
    held = state(FLAG, row)
    assert held.due == due
    mark_pending(row, FLAG, delay=HOUR)
    assert state(FLAG, row).until == held.until


# Unmark that drops the lease; ends that ask whether the flag is set.


def test_a_row_unmarked_and_marked_again_while_held_is_not_held_twice(row):
    first = marked_and_claimed(FLAG, row)
    unmark(row, FLAG)
    mark_pending(row, FLAG)
    assert claim(FLAG, limit=1, lease=LEASE) == []
    assert finish(first)
    assert finish(claim_one(FLAG))
    assert state(FLAG, row) == IDLE


def test_the_work_on_a_row_unmarked_meanwhile_is_not_lost(row):
    held = marked_and_claimed(FLAG, row)
    unmark(row, FLAG)
    held.row.customer = "eve"
    assert finish(held)
    assert Order.get().customer == "eve"
    assert state(FLAG, row) == IDLE


# Finish that leaves the time of the mark.


def test_the_next_raw_mark_has_a_key_of_its_own(database, row):
    mark_pending(row, FLAG)
    write(FLAG, row, at=1_000_000_000_000)  # long ago: no two in one millisecond
    held = claim_one(FLAG)
    first = FLAG.key_of_mark(held.row)
    assert finish(held)
    run_sql(database, "UPDATE", Entity("order"), "SET needs_receipt = true")
    assert FLAG.key_of_mark(claim_one(FLAG).row) != first


def test_the_key_of_a_mark_stays_the_same_over_its_attempts(row):
    held = marked_and_claimed(FLAG, row)
    first = FLAG.key_of_mark(held.row)
    assert release(held, wait=HOUR, error="x")
    write(FLAG, row, due=1)
    again = claim_one(FLAG)
    assert again.attempt == 2
    assert FLAG.key_of_mark(again.row) == first


# MySQL assigns from left to right, and sees the new values.


def test_an_ordinary_row_is_not_pending_again_after_its_run(row):
    for _ in range(3):
        assert finish(marked_and_claimed(FLAG, row))
        assert state(FLAG, row) == IDLE
        assert not is_due(FLAG)


def test_a_row_marked_while_held_is_pending_after_its_run(row):
    held = marked_and_claimed(FLAG, row)
    mark_pending(row, FLAG)
    assert finish(held)
    assert is_freshly_marked(FLAG, row)
    assert is_due(FLAG)
