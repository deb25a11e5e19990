"""Step 4, claim: one live lease a row, on every database."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from domain import FLAGS, Order, Seat
from looking import kind_of, now_of, only, state, statements, write
from peewee import IntegerField
from steps import HOUR, LEASE, claim_one, marked_and_claimed, pending_orders

from models import NEVER, PendingFlag, PendingModel
from models.claiming import (
    claim,
    is_due,
    new_token,
    renew,
    take_back,
)
from models.finishing import finish, finish_all, give_back, park, postpone, release
from models.marking import mark_pending, unmark

FLAG = Order.needs_receipt


@pytest.mark.parametrize("kind", FLAGS)
def test_a_claim_holds_the_row_and_counts_the_attempt(database, kind):
    flag, new = FLAGS[kind]
    row = new()
    mark_pending(row, flag)
    before = state(flag, row)
    held = claim_one(flag)
    now = state(flag, row)
    assert held.row == flag.model.get()
    assert held.row.__data__[flag.name] is True
    assert held.attempt == now.attempts == 1
    assert held.token == now.lease > 0
    assert (now.flag, now.at, now.due) == (True, before.at, before.due)
    assert 0 <= now.until - now_of(database, flag) - 30_000 + 10_000 <= 10_000
    assert not is_due(flag)
    assert claim(flag, limit=1, lease=LEASE) == []


def test_a_claim_prints_its_flag_and_key(database):
    row = Order.create(needs_receipt=True)
    assert str(claim_one(FLAG)) == f"flag={FLAG.label} key={row.id}"
    Seat.create(room="a", number=1, needs_cleaning=True)
    held = claim_one(Seat.needs_cleaning)
    assert str(held) == f"flag={held.flag.label} key=('a', 1)"


def test_the_limit_is_honoured_exactly(database):
    pending_orders(50)
    sizes = [len(claim(FLAG, limit=limit, lease=LEASE)) for limit in (1, 5, 20, 100)]
    assert sizes == [1, 5, 20, 24]


@only("postgresql")
def test_the_limit_is_honoured_however_the_claim_is_planned(database):
    """An `IN (SELECT … LIMIT 5)` takes all 50 in such a nested loop."""
    pending_orders(50)
    others = ("hashjoin", "mergejoin", "hashagg", "sort", "material")
    for way in others:
        database.execute_sql(f"SET enable_{way} = off")
    try:
        assert len(claim(FLAG, limit=5, lease=LEASE)) == 5
    finally:
        database.execute_sql("RESET ALL")


def test_the_longest_due_come_first(database):
    pending_orders(6)
    for order in Order.select():
        write(FLAG, order, due=1000 - order.total)
    taken = [
        {held.row.total for held in claim(FLAG, limit=2, lease=LEASE)} for _ in range(3)
    ]
    assert taken == [{5, 4}, {3, 2}, {1, 0}]


def test_idle_scheduled_retrying_parked_and_held_rows_are_not_claimed(database):
    Order.create()
    mark_pending(Order(), FLAG, delay=HOUR)
    release(marked_and_claimed(FLAG, Order()), wait=HOUR, error="x")
    park(marked_and_claimed(FLAG, Order()), error="x")
    unmark(marked_and_claimed(FLAG, Order()).row, FLAG)
    marked_and_claimed(FLAG, Order())
    assert not is_due(FLAG)
    assert claim(FLAG, limit=9, lease=LEASE) == []


def test_each_flag_of_a_row_is_claimed_by_itself(database):
    Order.create(needs_receipt=True, needs_label=True)
    one, other = claim_one(Order.needs_receipt), claim_one(Order.needs_label)
    assert one.token != other.token
    assert finish(one)
    assert finish(other)


def test_a_raw_mark_gets_its_time_from_the_first_claim_and_keeps_it(database):
    row = Order.create()
    mark_pending(row, FLAG)
    write(FLAG, row, at=0, due=0)
    held = claim_one(FLAG)
    first = state(FLAG, row).at
    assert abs(first - now_of(database, FLAG)) < 10_000
    write(FLAG, row, until=1)
    again = claim_one(FLAG)
    assert FLAG.key_of_mark(held.row) == FLAG.key_of_mark(again.row)
    assert FLAG.key_of_mark(again.row) == f"{FLAG.label}:{row.id}:{first}"


# Crashes.


def test_an_expired_lease_is_taken_over_and_counts_as_a_crash(database):
    row = Order.create()
    lost = marked_and_claimed(FLAG, row)
    for crashes in (1, 2, 3):
        write(FLAG, row, until=now_of(database, FLAG) - 1)
        held = claim_one(FLAG)
        now = state(FLAG, row)
        assert (now.attempts, now.crashes) == (crashes + 1, crashes)
        assert held.token not in {lost.token, None}
        assert not finish(lost)
        lost = held
    assert finish(held)
    assert state(FLAG, row).crashes == 0


def test_a_lease_lasts_until_its_last_millisecond(database):
    row = Order.create()
    marked_and_claimed(FLAG, row)
    write(FLAG, row, until=now_of(database, FLAG) + 60_000)
    assert not is_due(FLAG)
    write(FLAG, row, until=now_of(database, FLAG))
    assert is_due(FLAG)


def test_a_crash_while_marked_again_still_counts(database):
    row = Order.create()
    marked_and_claimed(FLAG, row)
    mark_pending(row, FLAG)
    write(FLAG, row, until=1)
    assert claim_one(FLAG).attempt == 2
    assert state(FLAG, row).crashes == 1


def test_a_row_given_back_costs_no_attempt(database):
    row = Order.create()
    mark_pending(row, FLAG)
    before = state(FLAG, row)
    assert give_back(claim_one(FLAG))
    assert state(FLAG, row) == before


def test_a_postponed_row_costs_no_attempt(database):
    row = Order.create()
    held = marked_and_claimed(FLAG, row)
    assert release(held, wait=HOUR, error="boom")
    write(FLAG, row, due=1)
    assert postpone(claim_one(FLAG), wait=HOUR, error="later")
    now = state(FLAG, row)
    assert (now.attempts, now.error, now.lease) == (1, "later", None)
    assert now.due > now.at


def test_suspects_may_be_left_to_others(database):
    """A row whose last claim had no end may have killed its worker."""
    suspect, other = Order.create(), Order.create()
    marked_and_claimed(FLAG, suspect)
    write(FLAG, suspect, until=1)
    mark_pending(other, FLAG)
    (held,) = claim(FLAG, limit=9, lease=LEASE, suspects=False)
    assert (held.row, held.crashes) == (other, 0)
    (held,) = claim(FLAG, limit=9, lease=LEASE)
    assert (held.row, held.crashes) == (suspect, 1)


def test_a_claim_whose_answer_was_lost_is_taken_back_by_its_token(database):
    pending_orders(3)
    before = [state(FLAG, row) for row in Order.select().order_by(Order.id)]
    token = new_token()
    assert len(claim(FLAG, limit=2, lease=LEASE, token=token)) == 2
    assert take_back(FLAG, token) == 2
    assert take_back(FLAG, token) == 0
    assert [state(FLAG, row) for row in Order.select().order_by(Order.id)] == before


# Renewals.


@pytest.mark.parametrize("kind", FLAGS)
def test_a_renewed_lease_is_held_for_longer(database, kind):
    flag, new = FLAGS[kind]
    row = new()
    held = marked_and_claimed(flag, row)
    before = state(flag, row)
    assert renew(flag, [held], lease=HOUR) == [held]
    after = state(flag, row)
    assert after.until - before.until > 3_500_000
    after.until = before.until
    assert after == before


def test_renewing_counts_what_is_still_held(database):
    pending_orders(4)
    claims = [*claim(FLAG, limit=2, lease=LEASE), *claim(FLAG, limit=2, lease=LEASE)]
    assert renew(FLAG, claims, lease=LEASE) == claims
    assert finish(claims[0])
    claims[1].row.delete_instance(recursive=True)
    write(FLAG, claims[2].row, until=1)
    claim_one(FLAG)
    unmark(claims[3].row, FLAG)
    assert renew(FLAG, claims, lease=LEASE) == claims[3:]
    assert renew(FLAG, claims[:3], lease=LEASE) == []
    assert renew(FLAG, [], lease=LEASE) == []


def test_renewing_many_takes_no_more_statements_than_renewing_one(database):
    pending_orders(30)
    claims = claim(FLAG, limit=30, lease=LEASE)
    with statements(database) as one:
        renew(FLAG, claims[:1], lease=LEASE)
    with statements(database) as all_of_them:
        assert len(renew(FLAG, claims, lease=LEASE)) == 30
    assert len(all_of_them) == len(one)


# The clock.


def test_the_database_s_clock_knows_no_time_zone(database):
    zones = {"postgresql": "SET TIME ZONE 9", "mysql": "SET time_zone = '+09:00'"}
    kind = kind_of(database)
    if kind in zones:
        database.execute_sql(zones[kind])
    assert abs(now_of(database, FLAG) - time.time() * 1000) < 10_000
    if kind in zones:
        database.execute_sql(
            "SET TIME ZONE DEFAULT"
            if kind == "postgresql"
            else ("SET time_zone = DEFAULT")
        )


def test_a_statement_sees_one_instant(database):
    row = Order.create(needs_receipt=True)
    now = state(FLAG, row)
    assert now.at == now.due


# Errors.


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(database, limit):
    with pytest.raises(ValueError, match=f"^out of range: limit={limit}, lease="):
        claim(FLAG, limit=limit, lease=LEASE)


@pytest.mark.parametrize("lease", [timedelta(0), timedelta(seconds=-1)])
def test_a_lease_that_is_over_at_once_is_refused(database, lease):
    row = Order.create(needs_receipt=True)
    with pytest.raises(ValueError, match=r"^out of range: limit=1, lease="):
        claim(FLAG, limit=1, lease=lease)
    assert state(FLAG, row).attempts == 0


def test_a_claim_moves_no_due_time(database):
    """Else each claim would cost the index a write, and NEVER would be lost."""
    row = Order.create(needs_receipt=True)
    held = claim_one(FLAG)
    assert park(held, error="x")
    assert state(FLAG, row).due == NEVER


def test_models_of_the_same_name_and_table_are_not_taken_for_each_other(database):
    """As in the modules of two applications, or in two tests."""

    def model_with(**fields):
        class Twin(PendingModel):
            needs_care = PendingFlag()

            class Meta:
                table_name = "twin"

        for name, field in fields.items():
            Twin._meta.add_field(name, field)
        return Twin

    for twin in (model_with(a=IntegerField()), model_with(b=IntegerField())):
        with database.bind_ctx([twin]):
            database.create_tables([twin])
            try:
                (name,) = {"a", "b"} & set(twin._meta.fields)
                twin.create(needs_care=True, **{name: 5})
                held = claim_one(twin.needs_care)
                assert getattr(held.row, name) == 5
                setattr(held.row, name, 6)
                assert finish_all([held]) == [held]
                assert getattr(twin.get(), name) == 6
            finally:
                database.drop_tables([twin])
