"""Counting and listing: every state, with a bound on what is read."""

from __future__ import annotations

from datetime import timedelta

import pytest
from domain import FLAGS, Order, Seat, Ticket
from looking import now_of, write
from steps import HOUR, LEASE, claim_one, pending_orders

from models import NEVER, listing, looking
from models.claiming import claim
from models.counting import Amount, numbers
from models.errors import BadText
from models.finishing import park, release
from models.listing import listed, shown
from models.marking import mark_pending, unmark
from models.states import State

FLAG = Order.needs_receipt


@pytest.fixture
def every_state(database):
    """One row in each state, by its name."""
    rows = {state: Order.create(customer=state.value) for state in State}
    for state in (State.PARKED, State.RETRYING, State.RUNNING):
        mark_pending(rows[state], FLAG)
        held = claim_one(FLAG)
        if state is State.PARKED:
            assert park(held, error="no such street")
        elif state is State.RETRYING:
            assert release(held, wait=HOUR, error="boom")
    mark_pending(rows[State.DUE], FLAG)
    mark_pending(rows[State.SCHEDULED], FLAG, delay=HOUR)
    return rows


def test_each_row_is_counted_once_by_its_state(every_state):
    found = numbers(FLAG)
    one = Amount(1)
    assert (found.due, found.scheduled, found.running) == (one, one, one)
    assert (found.retrying, found.parked) == (one, one)
    assert timedelta(0) <= found.oldest < timedelta(minutes=1)


def test_each_row_is_listed_and_shown_in_its_state(every_state):
    for state in set(State) - {State.IDLE}:
        page = listed(FLAG, state)
        assert [row.key for row in page.rows] == [(every_state[state].id,)]
        assert (page.next, page.more) == (None, False)
    for state, row in every_state.items():
        assert shown(FLAG, (row.id,)).state is state
    assert shown(FLAG, (0,)) is None


def test_a_row_tells_what_an_operator_asks(every_state):
    parked = shown(FLAG, (every_state[State.PARKED].id,))
    assert (parked.attempts, parked.crashes, parked.error) == (1, 0, "no such street")
    assert parked.due is parked.until is None
    assert timedelta(0) <= parked.age < timedelta(minutes=1)
    assert parked.values["customer"] == "parked"
    assert "needs_receipt_due" not in parked.values
    scheduled = shown(FLAG, (every_state[State.SCHEDULED].id,))
    assert timedelta(minutes=59) < scheduled.due - scheduled.at <= HOUR


def test_nothing_pending_is_all_noughts(database):
    Order.create()
    found = numbers(FLAG)
    assert {found.of(state).n for state in State if state is not State.IDLE} == {0}
    assert found.oldest is None
    assert str(found.due) == "0"


def test_a_row_that_was_unmarked_while_running_is_shown_as_running(database):
    row = Order.create(needs_receipt=True)
    claim_one(FLAG)
    unmark(row, FLAG)
    assert shown(FLAG, (row.id,)).state is State.RUNNING


def test_a_row_marked_again_with_a_delay_whose_worker_died_is_scheduled(database):
    row = Order.create(needs_receipt=True)
    claim_one(FLAG)
    mark_pending(row, FLAG, delay=HOUR)
    assert numbers(FLAG).running == Amount(1)
    write(FLAG, row, until=1)
    assert numbers(FLAG).scheduled == Amount(1)
    assert [one.key for one in listed(FLAG, State.SCHEDULED).rows] == [(row.id,)]


def test_a_mark_by_raw_sql_is_due_since_nobody_knows_when(database):
    row = Order.create(needs_receipt=True)
    write(FLAG, row, at=0, due=0)
    found = numbers(FLAG)
    assert (found.due, found.oldest) == (Amount(1), None)
    assert (shown(FLAG, (row.id,)).age, shown(FLAG, (row.id,)).due) == (None, None)


def test_the_oldest_is_the_longest_due(database):
    first, second = Order.create(needs_receipt=True), Order.create(needs_receipt=True)
    now = now_of(database, FLAG)
    write(FLAG, first, due=now - 60_000)
    write(FLAG, second, due=now - 30_000)
    assert 60 <= numbers(FLAG).oldest.total_seconds() < 90
    claim_one(FLAG)
    assert 30 <= numbers(FLAG).oldest.total_seconds() < 60


def test_counts_are_capped_and_say_so(database, monkeypatch):
    monkeypatch.setattr(looking, "CAP", 10)
    pending_orders(25)
    for due, row in enumerate(Order.select(), 1):
        write(FLAG, row, due=due)
    claim(FLAG, limit=3, lease=LEASE)
    found = numbers(FLAG)
    assert (str(found.due), str(found.running)) == ("8+", "3+")
    mark_pending(Order.select(), FLAG, delay=HOUR)
    Order.update({FLAG.until: 0}).execute()
    assert str(numbers(FLAG).scheduled) == "10+"
    Order.update({FLAG.due: NEVER}).execute()
    found = numbers(FLAG)
    assert (str(found.parked), str(found.scheduled)) == ("10+", "0")
    assert str(Amount(10_000, more=True)) == "10,000+"


def test_pages_follow_one_another_without_gap_or_overlap(database):
    pending_orders(25)
    seen, after = [], None
    for _ in range(4):
        page = listed(FLAG, State.DUE, after=after, limit=7)
        seen += [row.key for row in page.rows]
        after = page.next
    assert after is None
    assert len(seen) == len(set(seen)) == 25


def test_running_rows_are_listed_over_both_stretches_of_the_index(database):
    pending_orders(6)
    claims = claim(FLAG, limit=6, lease=LEASE)
    for held in claims[:3]:
        mark_pending(held.row, FLAG, delay=HOUR)
    first = listed(FLAG, State.RUNNING, limit=4)
    second = listed(FLAG, State.RUNNING, after=first.next, limit=4)
    keys = [row.key for row in [*first.rows, *second.rows]]
    assert sorted(keys) == sorted(held.key for held in claims)


def test_a_list_ends_at_the_cap_and_says_so(database, monkeypatch):
    monkeypatch.setattr(looking, "CAP", 10)
    pending_orders(25)
    page = listed(FLAG, State.DUE, limit=50)
    assert (len(page.rows), page.next, page.more) == (11, None, True)
    assert not listed(FLAG, State.DUE, limit=5).more


@pytest.mark.parametrize("kind", FLAGS)
def test_every_kind_of_key_is_listed_and_paged(database, kind):
    flag, new = FLAGS[kind]
    row = new()
    mark_pending(row, flag)
    page = listed(flag, State.DUE)
    assert [one.key for one in page.rows] == [
        (row._pk if isinstance(row._pk, tuple) else (row._pk,))
    ]
    cursor = listing._cursor(0, page.rows[0].key)
    assert len(listed(flag, State.DUE, after=cursor).rows) == 1


def test_keys_of_two_columns_and_uuids_are_paged(database):
    for number in range(5):
        Seat.create(room="a,b", number=number, needs_cleaning=True)
        Ticket.create(needs_print=True)
    for flag in (Seat.needs_cleaning, Ticket.needs_print):
        first = listed(flag, State.DUE, limit=3)
        second = listed(flag, State.DUE, limit=3, after=first.next)
        assert len({row.key for row in [*first.rows, *second.rows]}) == 5


def test_filters_narrow_the_list_and_pages_go_on_within_them(every_state):
    pending_orders(5)
    for state in set(State) - {State.IDLE}:
        page = listed(FLAG, state, filters=[f"customer={state.value}"])
        assert [row.key for row in page.rows] == [(every_state[state].id,)]
    first = listed(FLAG, State.DUE, filters=["customer=a"], limit=3)
    rest = listed(FLAG, State.DUE, filters=["customer=a"], limit=3, after=first.next)
    assert (len(first.rows), len(rest.rows), rest.next) == (3, 2, None)
    assert len(listed(FLAG, State.PARKED, filters=["error~STREET"]).rows) == 1


@pytest.mark.parametrize("after", ["", "[]", "{", '["a", "b"]', "[1, null]", "7"])
def test_a_page_that_is_none_is_refused(database, after):
    with pytest.raises(BadText):
        listed(FLAG, State.DUE, after=after)


def test_running_rows_are_seen_at_both_ends_of_many_with_one_due_time(
    database, monkeypatch
):
    """Where PostgreSQL has put them: a row that was changed may stand last."""
    monkeypatch.setattr(looking, "CAP", 10)
    pending_orders(25)
    rows = list(Order.select().order_by(Order.id))
    for due, row in enumerate(rows, 1):
        write(FLAG, row, due=due)
    until = now_of(database, FLAG) + 60_000
    for row in (rows[0], rows[24]):
        write(FLAG, row, until=until, lease=7)
    assert str(numbers(FLAG).running) == "2+"
    page = listed(FLAG, State.RUNNING)
    assert [row.key[0] for row in page.rows] == [rows[0].id, rows[24].id]
    assert page.more
