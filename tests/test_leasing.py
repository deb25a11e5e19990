"""A worker that is alive keeps its leases live, however long a handler runs."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from domain import Line, Order
from elsewhere import open_transaction
from looking import only, state, write
from steps import HOUR, LEASE, claim_one, pending_orders
from waiting import wait_for

from models import PendingFlag, PendingModel
from models.claiming import claim, renew_waiting
from models.finishing import finish
from worker.leasing import Leases

FLAG = Order.needs_receipt


@contextmanager
def leases_of(lease):
    """Afterwards their threads rest: they have no connection that the next test would
    find open."""
    leases = Leases(lease)
    yield leases
    wait_for(lambda: not leases._is_needed.is_set(), what="something is held")
    leases._waiters.shutdown()
    leases._enders.shutdown()


@pytest.fixture
def leases():
    """Leases that are renewed all the time."""
    with leases_of(timedelta(seconds=0.3)) as leases:
        yield leases


def new_claim():
    Order.create(needs_receipt=True)
    return claim_one(FLAG)


def until(claim):
    return state(claim.flag, claim.row).until


def renewed(claim, times=1):
    """Wait until the claim was renewed so many times."""
    for _ in range(times):
        before = until(claim)
        wait_for(lambda before=before: until(claim) > before, what="not renewed")


def test_a_held_claim_is_renewed_again_and_again(database, leases):
    held = new_claim()
    write(FLAG, held.row, until=1)
    with leases.kept(held):
        renewed(held, times=3)


def test_all_held_claims_are_renewed_by_one_thread(database, leases):
    one, other = new_claim(), new_claim()
    write(FLAG, one.row, until=1)
    write(FLAG, other.row, until=1)
    with leases.kept(one), leases.kept(other):
        thread = leases._thread
        renewed(one)
        renewed(other)
        assert leases._thread is thread


def test_a_claim_that_has_ended_is_renewed_no_more(database, leases):
    ended, held = new_claim(), new_claim()
    write(FLAG, held.row, until=1)
    with leases.kept(held):
        with leases.kept(ended):
            pass
        renewed(held)  # the renewal under way at the end may have had both
        write(FLAG, ended.row, until=1)
        renewed(held, times=2)
        assert until(ended) == 1


def test_a_block_that_raises_ends_too(database, leases):
    ended, held = new_claim(), new_claim()
    with pytest.raises(ValueError, match="boom"), leases.kept(ended):
        raise ValueError("boom")
    write(FLAG, held.row, until=1)
    with leases.kept(held):
        renewed(held)
        write(FLAG, ended.row, until=1)
        renewed(held)
        assert until(ended) == 1


def test_a_lost_lease_is_not_taken_back(database, leases):
    lost, held = new_claim(), new_claim()
    write(FLAG, lost.row, lease=1, until=2)
    write(FLAG, held.row, until=1)
    with leases.kept(lost), leases.kept(held):
        renewed(held, times=2)
        assert until(lost) == 2


@pytest.fixture
def busy(monkeypatch):
    """Threads that could wait for a row are busy until this event is set, but for as
    many as its attribute `free` says."""
    over = threading.Event()
    over.free = 0

    def wait(claim, *, lease):
        if not over.free:
            return over.wait()
        over.free -= 1
        return renew_waiting(claim, lease=lease)

    monkeypatch.setattr("worker.leasing.renew_waiting", wait)
    yield over
    over.set()


@only("postgresql", "mysql")
def test_a_lock_that_goes_lets_all_leases_be_renewed_at_once(
    database, busy, monkeypatch
):
    """The transaction has more rows than there are threads to wait for them; and it
    lasts longer than their leases. The next renewal is far."""
    monkeypatch.setattr("worker.leasing._LONG_SECONDS", 0)
    busy.free = 1
    pending_orders(5)
    claims, update = claim(FLAG, limit=5, lease=LEASE), Order.update({FLAG.until: 1})
    with leases_of(HOUR) as leases, leases.kept(*claims):
        with open_transaction(database, update.execute):
            leases.renew_all()
            leases._passed_over.clear()  # no other turn, either
        wait_for(lambda: all(until(held) > 1 for held in claims), what="not renewed")
        busy.set()


@only("postgresql")
def test_a_table_that_is_locked_keeps_no_other_flag_s_leases_from_being_renewed(
    database, leases
):
    Line.create(order=Order.create(), needs_stock=True)
    held, stuck = new_claim(), claim_one(Line.needs_stock)
    lock = partial(database.execute_sql, "LOCK TABLE line")
    with leases.kept(stuck, held):
        with open_transaction(database, lock):
            renewed(held, times=3)
        renewed(stuck)


@only("postgresql", "mysql")
def test_a_row_that_was_locked_for_a_moment_is_renewed_soon(database, busy):
    """Also where nobody can wait for it, and the next renewal is far."""
    held, update = new_claim(), Order.update({FLAG.until: 1})
    with leases_of(HOUR) as leases, leases.kept(held):
        with open_transaction(database, update.execute):
            leases.renew_all()
        renewed(held)
        busy.set()


@only("postgresql", "mysql")
def test_ends_that_wait_keep_no_renewal_from_waiting(database, leases, monkeypatch):
    waiting = []

    def wait_for_row(claim, *, lease):
        waiting.append(claim)
        return renew_waiting(claim, lease=lease)

    monkeypatch.setattr("worker.leasing.renew_waiting", wait_for_row)
    pending_orders(40)
    held, *ended = claim(FLAG, limit=40, lease=LEASE)
    update = Order.update({FLAG.until: 1})
    with open_transaction(database, update.execute):
        for one in ended:
            leases.later(one, partial(finish, one))
        leases.hold(held)
        wait_for(lambda: waiting, what="nobody waits for the row")
        assert set(waiting) == {held}
    renewed(held)
    wait_for(lambda: Order.select().where(FLAG).count() == 1, what="not ended")
    leases.let_go(held)


def test_the_trouble_of_one_flag_s_table_ends_no_other_lease(database, leases, caplog):
    class Ghost(PendingModel):
        """Has no table."""

        needs_body = PendingFlag()

    with database.bind_ctx([Ghost]):
        broken = replace(new_claim(), flag=Ghost.needs_body)
        with leases.kept(broken):
            wait_for(lambda: "leases not renewed, trying again" in caplog.text)
            held = new_claim()
            write(FLAG, held.row, until=1)
            with leases.kept(held):
                renewed(held, times=2)
        assert f"trying again flag={Ghost.needs_body.label}: " in caplog.text
