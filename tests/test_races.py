"""Many at once, with real locks: what each does to the others."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from domain import Line, Order, Ticket
from elsewhere import in_threads, open_transaction
from looking import only
from steps import HOUR, LEASE, claim_one, pending_orders
from waiting import wait_for

from models.claiming import claim, is_due, renew, renew_waiting
from models.finishing import finish

FLAG = Order.needs_receipt


@pytest.mark.parametrize("limit", [1, 7])
def test_threads_never_claim_the_same_row(database, limit):
    pending_orders(300)

    def take(_):
        taken = []
        while claims := claim(FLAG, limit=limit, lease=HOUR):
            taken += claims
        return taken

    taken = [held for claims in in_threads(database, 8, take) for held in claims]
    keys = Counter(held.key for held in taken)
    assert len(keys) == len(taken) == 300
    assert not is_due(FLAG)
    rows = Order.select(Order.id, FLAG.lease, FLAG.attempts).tuples()
    assert set(rows) == {(held.key[0], held.token, 1) for held in taken}


def test_threads_that_claim_and_finish_do_each_row_once(database):
    Ticket.insert_many([{"needs_print": True} for _ in range(150)]).execute()

    def work(_):
        done = 0
        while claims := claim(Ticket.needs_print, limit=5, lease=HOUR):
            done += sum(finish(held) for held in claims)
        return done

    assert sum(in_threads(database, 8, work)) == 150
    assert not is_due(Ticket.needs_print)


@only("postgresql", "mysql")
def test_a_row_that_another_transaction_has_locked_is_passed_over(database):
    """SQLite has no locks of rows."""
    pending_orders(2)
    locked, free = Order.select().order_by(Order.id)

    def touch():
        Order.update(customer="eve").where(Order.id == locked.id).execute()

    with open_transaction(database, touch):
        assert [held.row for held in claim(FLAG, limit=2, lease=LEASE)] == [free]
        assert is_due(FLAG)
    held = claim_one(FLAG)
    assert (held.row, held.row.customer) == (locked, "eve")


@only("sqlite")
def test_a_claim_waits_for_another_writer_of_the_file(database):
    """SQLite's writers lock the whole file, for as long as their transaction."""
    pending_orders(1)
    with open_transaction(database, lambda: Order.update(customer="eve").execute()):
        assert is_due(FLAG)
    assert claim_one(FLAG).row.customer == "eve"


@only("postgresql")
def test_a_row_whose_child_is_being_inserted_is_claimed(database):
    """The foreign key's lock of the parent is PostgreSQL's KEY SHARE."""
    row = Order.create(needs_receipt=True)
    with open_transaction(database, lambda: Line.create(order=row)):
        held = claim_one(FLAG)
        assert finish(held)
    assert row.lines.count() == 1


@only("mysql")
def test_a_claim_keeps_nobody_from_inserting(database):
    """Elsewhere a claim is one statement; here a gap lock could lie between two."""
    pending_orders(3)

    def insert(_):
        database.execute_sql("SET innodb_lock_wait_timeout = 5")
        return Order.create(needs_receipt=True)

    def insert_meanwhile(event):
        if "SKIP LOCKED" in event.sql:
            inserted.extend(in_threads(database, 1, insert))

    inserted = []
    database.query_hooks.append(insert_meanwhile)
    try:
        assert len(claim(FLAG, limit=9, lease=LEASE)) == 3
    finally:
        database.query_hooks.remove(insert_meanwhile)
    assert claim_one(FLAG).row == inserted[0]


@only("postgresql", "mysql")
def test_renewing_waits_for_no_lock_unless_it_is_told_to(database):
    """SQLite has no locks of rows."""
    pending_orders(2)
    locked, free = sorted(claim(FLAG, limit=2, lease=LEASE), key=lambda c: c.key)

    def touch():
        Order.update(customer="eve").where(Order.id == locked.row.id).execute()

    with open_transaction(database, touch):
        assert renew(FLAG, [locked, free], lease=HOUR) == [free]
    assert renew_waiting(locked, lease=HOUR)
    assert finish(locked)
    assert not renew_waiting(locked, lease=HOUR)


@only("postgresql")
def test_a_statement_in_somebodys_way_is_run_again_at_read_committed(database):
    """The finish waits for the application's update, which a stricter default would
    not have it see."""
    pending_orders(1)
    held = claim_one(FLAG)
    waiting = (
        "SELECT 1 FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    tries = []

    def finish_strictly():
        database.execute_sql("SET default_transaction_isolation = 'repeatable read'")
        tries.append(database.in_transaction())
        return finish(held)

    def act():
        Order.update(total=7).execute()

    with ThreadPoolExecutor(1) as pool:
        with open_transaction(database, act):
            ending = pool.submit(
                FLAG.dialect.at_read_committed, database, finish_strictly
            )
            wait_for(lambda: database.execute_sql(waiting).fetchone())
        assert ending.result(60) is True
        pool.submit(database.manual_close).result(60)
    assert tries == [False, True]
    assert (Order.get().total, Order.get().needs_receipt) == (7, False)
