"""An operator's verbs: on the rows that are meant, and on no others."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
from domain import FLAGS, Order
from looking import IDLE, state, write
from steps import HOUR, claim_one, pending_orders

from models import NEVER, steering
from models.connection import connected
from models.errors import BadText
from models.finishing import park as park_claim
from models.finishing import release
from models.listing import shown
from models.marking import mark_pending
from models.states import State
from models.steering import Selection, mark, park, retry, selected, unmark

FLAG = Order.needs_receipt
VERBS = {"retry": retry, "mark": mark, "unmark": unmark, "park": park}

#: The states that each verb takes a row out of, and where to.
MOVES = {
    "retry": {State.PARKED: State.DUE, State.RETRYING: State.DUE},
    "mark": {
        State.IDLE: State.DUE,
        State.DUE: State.DUE,
        State.SCHEDULED: State.DUE,
        State.RUNNING: State.RUNNING,
        State.RETRYING: State.DUE,
        State.PARKED: State.DUE,
    },
    "unmark": {
        State.DUE: State.IDLE,
        State.SCHEDULED: State.IDLE,
        State.RUNNING: State.RUNNING,
        State.RETRYING: State.IDLE,
        State.PARKED: State.IDLE,
    },
    "park": {
        State.DUE: State.PARKED,
        State.SCHEDULED: State.PARKED,
        State.RETRYING: State.PARKED,
    },
}


@pytest.fixture
def every_state(database):
    """One row in each state, by its name."""
    rows = {one: Order.create(customer=one.value) for one in State}
    for one in (State.PARKED, State.RETRYING, State.RUNNING):
        mark_pending(rows[one], FLAG)
        held = claim_one(FLAG)
        if one is State.PARKED:
            assert park_claim(held, error="no such street")
        elif one is State.RETRYING:
            assert release(held, wait=HOUR, error="boom")
    mark_pending(rows[State.DUE], FLAG)
    mark_pending(rows[State.SCHEDULED], FLAG, delay=HOUR)
    return rows


def states_of(rows):
    return {was: shown(FLAG, (row.id,)).state for was, row in rows.items()}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("by", ["keys", "all"])
def test_a_verb_moves_the_rows_that_it_is_for_and_no_others(every_state, verb, by):
    keys = [(row.id,) for row in every_state.values()] if by == "keys" else None
    rows, moves = Selection(FLAG, keys=keys), MOVES[verb]
    assert selected(verb, rows) == len(moves)
    assert states_of(every_state) == {one: one for one in State}
    assert VERBS[verb](rows, by="dan") == len(moves)
    assert states_of(every_state) == {one: moves.get(one, one) for one in State}


@pytest.mark.parametrize("verb", VERBS)
def test_a_state_and_a_filter_narrow_the_verb(every_state, verb):
    for one, becomes in MOVES[verb].items():
        other = Selection(FLAG, states=[one], filters=["customer=nobody"])
        assert VERBS[verb](other, by="dan") == 0
        this = Selection(FLAG, states=[one], filters=[f"customer={one.value}"])
        assert selected(verb, this) == 1
        assert VERBS[verb](this, by="dan") == 1
        assert shown(FLAG, (every_state[one].id,)).state is becomes
        break


def test_a_state_that_a_verb_is_not_for_is_an_error(every_state):
    with pytest.raises(ValueError, match="no running row can be parked, only: due"):
        park(Selection(FLAG, states=[State.RUNNING]), by="dan")
    with pytest.raises(BadText):
        retry(Selection(FLAG, filters=["colour=red"]), by="dan")


def test_a_retried_row_starts_anew_and_bells_ring(every_state, bells):
    row = every_state[State.PARKED]
    before = state(FLAG, row)
    retry(Selection(FLAG, keys=[(row.id,)]), by="dan")
    after = state(FLAG, row)
    assert (after.flag, after.attempts, after.crashes) == (True, 0, 0)
    assert after.at > before.at
    assert bells == [FLAG.label]
    assert claim_one(FLAG)


def test_a_row_that_is_parked_by_hand_keeps_its_error_or_is_given_one(every_state):
    park(Selection(FLAG), by="dan")
    assert state(FLAG, every_state[State.DUE]).error == "parked by dan"
    assert state(FLAG, every_state[State.RETRYING]).error == "boom"
    mark(Selection(FLAG), by="dan")
    park(Selection(FLAG), by="dan", reason="a flood")
    assert state(FLAG, every_state[State.RETRYING]).error == "a flood"


def test_a_row_whose_worker_died_can_be_parked_and_forgets_the_crash(database):
    row = Order.create(needs_receipt=True)
    zombie = claim_one(FLAG)
    assert park(Selection(FLAG), by="dan") == 0  # somebody is at it
    write(FLAG, row, until=1)
    assert park(Selection(FLAG), by="dan") == 1
    after = state(FLAG, row)
    assert (after.due, after.lease, after.crashes) == (NEVER, None, 0)
    assert not release(zombie, wait=HOUR, error="late")


def test_of_two_operators_one_retries_each_row(database):
    pending_orders(50)
    Order.update({FLAG.due: NEVER}).execute()
    keys = [(row.id,) for row in Order.select()]

    def click(_):
        with connected(database):
            return retry(Selection(FLAG, keys=keys), by="dan")

    with ThreadPoolExecutor(2) as two:
        assert sum(two.map(click, range(2))) == 50


def test_many_rows_are_changed_a_few_at_a_time(database, monkeypatch):
    monkeypatch.setattr(steering, "_CHUNK", 10)
    pending_orders(35)
    steps = []
    assert park(Selection(FLAG), by="dan", progress=steps.append) == 35
    assert steps == [10, 10, 10, 5]
    assert mark(Selection(FLAG), by="dan", progress=steps.append) == 35
    assert steps[4:] == [10, 10, 10, 5]


def test_a_row_that_is_parked_again_at_once_is_retried_once(database, monkeypatch):
    monkeypatch.setattr(steering, "_CHUNK", 3)
    pending_orders(9)
    Order.update({FLAG.due: NEVER, FLAG.at: 1}).execute()

    def park_again(_):
        Order.update({FLAG.due: NEVER}).execute()

    assert retry(Selection(FLAG), by="dan", progress=park_again) == 9


@pytest.mark.parametrize("kind", FLAGS)
def test_rows_with_every_kind_of_key_are_steered(database, kind):
    flag, new = FLAGS[kind]
    row = new()
    mark_pending(row, flag)
    key = row._pk if isinstance(row._pk, tuple) else (row._pk,)
    assert park(Selection(flag, keys=[key, key]), by="dan") == 1
    assert retry(Selection(flag, keys=[key]), by="dan") == 1
    assert mark(Selection(flag), by="dan") == 1
    assert unmark(Selection(flag), by="dan") == 1
    assert state(flag, row) == IDLE


def test_every_change_is_one_line_with_who_what_and_how_many(every_state, caplog):
    caplog.set_level(logging.INFO, logger="pending")
    retry(Selection(FLAG, filters=["customer=parked"]), by="dan")
    unmark(Selection(FLAG, keys=[(n,) for n in range(5)]), by="eve")
    first, second = (record.message for record in caplog.records)
    label = FLAG.label
    assert first == f"retried flag={label} rows=1 by=dan which=all(customer=parked)"
    assert second.startswith(f"unmarked flag={label} rows=")
    assert second.endswith(" by=eve which=keys(0 1 2 …)")
