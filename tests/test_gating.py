"""Limits over all processes: how many calls run at once, and how many begin."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from functools import partial

import peewee
import pytest
from domain import Order, Seat
from elsewhere import in_threads, open_transaction
from looking import only, state, statements, write
from steps import HOUR, LEASE, pending_orders
from waiting import wait_for

from models import gating
from models.claiming import claim, is_due, new_token
from models.finishing import finish, give_back
from models.gating import (
    TABLES,
    Gate,
    Limits,
    Slots,
    Wish,
    claim_within,
    make_tables,
    release_slots,
    renew_slots,
)
from models.rates import Rate

FLAG = Order.needs_receipt


@pytest.fixture(autouse=True)
def empty_gates(database):
    make_tables(database)
    for table in TABLES:
        table.delete().execute(database)


def wish(calls=1, rows=1, *, lease=LEASE, token=None):
    return Wish(calls, rows, len, lease, True, token or new_token())


def calls_of(passage):
    return len(passage.claims), passage.calls


def slots(database):
    return {
        (token, calls)
        for token, calls in Slots.select(Slots.token, Slots.calls)
        .tuples()
        .execute(database)
    }


def test_the_tables_are_made_once_whoever_comes_first(database):
    gating._with_tables.discard(database)
    for table in TABLES:
        database.execute_sql(f"DROP TABLE {table._meta.table_name}")

    def make(_):
        make_tables(database)

    in_threads(database, 4, make)
    assert all(database.table_exists(table._meta.table_name) for table in TABLES)
    with statements(database) as sent:
        make_tables(database)
    assert sent == []


def test_a_handler_without_limits_sends_no_statement_more(database):
    pending_orders(3)
    with statements(database) as sent:
        claim(FLAG, limit=3, lease=LEASE)
    assert not any("pending_" in sql for sql in sent)


def test_no_more_calls_are_let_in_than_may_run_at_once(database):
    pending_orders(9)
    limits = Limits(calls=3)
    assert calls_of(claim_within(FLAG, limits, wish(2))) == (2, 2)
    last = claim_within(FLAG, limits, wish(2))
    assert calls_of(last) == (1, 1)
    nothing = claim_within(FLAG, limits, wish(2))
    assert calls_of(nothing) == (0, 0)
    assert nothing.wait is None
    release_slots(FLAG, last.claims[0].token)
    assert calls_of(claim_within(FLAG, limits, wish(2))) == (1, 1)


def test_a_call_may_have_many_rows(database):
    pending_orders(9)
    passage = claim_within(
        FLAG, Limits(calls=1), Wish(1, 5, lambda c: 1, LEASE, True, 7)
    )
    assert calls_of(passage) == (5, 1)
    assert slots(database) == {(7, 1)}


def test_some_calls_of_many_may_be_over(database):
    pending_orders(9)
    claim_within(FLAG, Limits(calls=3), wish(3, token=7))
    release_slots(FLAG, 7, left=1)
    assert calls_of(claim_within(FLAG, Limits(calls=3), wish(5))) == (2, 2)


def test_slots_of_another_flag_do_not_count(database):
    pending_orders(2)
    Seat.create(room="a", number=1, needs_cleaning=True)
    assert calls_of(claim_within(FLAG, Limits(calls=1), wish())) == (1, 1)
    passage = claim_within(Seat.needs_cleaning, Limits(calls=1), wish())
    assert calls_of(passage) == (1, 1)


def test_nothing_due_takes_no_slot(database):
    assert calls_of(claim_within(FLAG, Limits(calls=1), wish())) == (0, 0)
    assert slots(database) == set()


def test_a_slot_is_free_again_when_its_lease_is_over_and_only_then(database):
    """As when its worker was killed."""
    pending_orders(3)
    limits = Limits(calls=1)
    claim_within(FLAG, limits, wish(token=7))
    assert calls_of(claim_within(FLAG, limits, wish())) == (0, 0)
    Slots.update(until=1).execute(database)
    assert calls_of(claim_within(FLAG, limits, wish(token=8))) == (1, 1)
    assert {token for token, _ in slots(database)} == {8}


def test_a_slot_that_is_renewed_is_held_on(database):
    pending_orders(3)
    limits = Limits(calls=1)
    claim_within(FLAG, limits, wish(token=7))
    Slots.update(until=1).execute(database)
    renew_slots(FLAG, [7], lease=HOUR)
    assert calls_of(claim_within(FLAG, limits, wish())) == (0, 0)


def test_a_slot_that_somebody_else_has_by_now_is_not_renewed(database):
    pending_orders(3)
    limits = Limits(calls=1)
    claim_within(FLAG, limits, wish(token=7))
    Slots.update(until=1).execute(database)
    claim_within(FLAG, limits, wish(token=8))
    renew_slots(FLAG, [7, 8], lease=HOUR)
    assert slots(database) == {(8, 1)}


def test_a_rate_lets_so_many_begin_and_says_when_to_come_again(database):
    pending_orders(9)
    limits = Limits(rate=Rate(4, timedelta(hours=1)))
    assert calls_of(claim_within(FLAG, limits, wish(3))) == (3, 3)
    assert calls_of(claim_within(FLAG, limits, wish(3))) == (1, 1)
    late = claim_within(FLAG, limits, wish(3))
    assert calls_of(late) == (0, 0)
    assert timedelta(minutes=59) < late.wait <= timedelta(minutes=61)
    assert is_due(FLAG)


def test_rows_that_only_waited_for_their_rate_have_no_attempt(database):
    pending_orders(2)
    limits = Limits(rate=Rate(1, timedelta(hours=1)))
    (first,) = claim_within(FLAG, limits, wish(2)).claims
    claim_within(FLAG, limits, wish(2))
    (other,) = Order.select().where(Order.id != first.row.id)
    assert state(FLAG, other).attempts == 0
    assert state(FLAG, first.row).attempts == 1


def test_a_period_later_the_rate_is_free_again(database):
    pending_orders(9)
    limits = Limits(rate=Rate(2, timedelta(seconds=1)))
    began = time.monotonic()
    taken = []
    while len(taken) < 6:
        passage = claim_within(FLAG, limits, wish(9))
        taken += [time.monotonic()] * len(passage.claims)
        time.sleep(passage.wait / timedelta(seconds=1) if passage.wait else 0)
    assert taken[-1] - began >= 2


def test_a_claim_that_is_rolled_back_has_counted_nothing(database):
    pending_orders(2)
    limits = Limits(calls=5, rate=Rate(2, timedelta(hours=1)))

    def count(claims):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        claim_within(FLAG, limits, Wish(2, 1, count, LEASE, True, 7))
    assert slots(database) == set()
    assert calls_of(claim_within(FLAG, limits, wish(2))) == (2, 2)


@only("postgresql", "mysql")
def test_who_finds_the_gate_locked_does_not_wait_there(database):
    pending_orders(2)
    claim_within(FLAG, Limits(calls=5), wish())

    def stay():
        query = Gate.select().where(Gate.flag == FLAG.label)
        assert list(query.for_update().execute(database))

    with open_transaction(database, stay):
        passage = claim_within(FLAG, Limits(calls=5), wish())
        assert passage.is_busy
        assert passage.wait < timedelta(seconds=1)
    assert calls_of(claim_within(FLAG, Limits(calls=5), wish())) == (1, 1)


def test_threads_at_the_same_time_never_have_too_many_calls(database):
    pending_orders(60)
    limits, now, most = Limits(calls=3), [0], []
    counting = threading.Lock()

    def work(_):
        over = time.monotonic() + 60
        while is_due(FLAG) and time.monotonic() < over:
            token = new_token()
            some = partial(claim_within, FLAG, limits, wish(2, token=token))
            passage = FLAG.dialect.at_read_committed(database, some)
            with counting:
                now[0] += passage.calls
                most.append(now[0])
            for held in passage.claims:
                assert finish(held)
            with counting:
                now[0] -= passage.calls
            if passage.claims:
                release_slots(FLAG, token)

    in_threads(database, 6, work)
    assert not is_due(FLAG)
    assert 0 < max(most) <= 3
    assert slots(database) == set()


def test_rows_given_back_may_be_claimed_again(database):
    pending_orders(1)
    (held,) = claim_within(FLAG, Limits(calls=1), wish(token=7)).claims
    assert give_back(held)
    release_slots(FLAG, 7)
    assert calls_of(claim_within(FLAG, Limits(calls=1), wish())) == (1, 1)


def test_a_flag_s_first_gate_is_made_by_one_of_many(database):
    pending_orders(8)

    def act(_):
        return claim_within(FLAG, Limits(calls=8), wish()).calls

    assert sum(in_threads(database, 4, act)) >= 1
    assert Gate.select().where(Gate.flag == FLAG.label).count(database) == 1


def test_an_expired_row_is_a_suspect_here_too(database):
    pending_orders(1)
    (row,) = Order.select()
    write(FLAG, row, lease=5, until=1, crashes=1)
    (held,) = claim_within(FLAG, Limits(calls=1), wish()).claims
    assert held.crashes == 2


def test_tables_that_are_dropped_are_made_again(database):
    pending_orders(3)
    for table in TABLES:
        limits = Limits(calls=5, rate=Rate(100, HOUR))
        assert calls_of(claim_within(FLAG, limits, wish())) == (1, 1)
        database.execute_sql(f"DROP TABLE {table._meta.table_name}")
        with pytest.raises(peewee.PeeweeException):
            claim_within(FLAG, limits, wish())
    assert calls_of(claim_within(FLAG, limits, wish())) == (1, 1)


def test_calls_that_seem_to_begin_later_are_free_again_after_a_period(database):
    """A clock that was set back, or a longer period until now: they count from when
    that is seen, not until their time has come and a period beyond."""
    pending_orders(1)
    limits, later = Limits(rate=Rate(2, timedelta(seconds=0.1))), 2**50
    make_tables(database)
    gate = {Gate.flag: FLAG.label, Gate.begun: f"[[{later}, 2]]"}
    Gate.insert(gate).execute(database)
    waits = []

    def passed():
        passage = claim_within(FLAG, limits, wish())
        waits.append(passage.wait)
        return passage.claims

    wait_for(passed, seconds=15)
    assert waits[0] is not None
