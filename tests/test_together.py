"""Rows of an atomic handler in one transaction: as if each had had its own."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from domain import Line, Order
from elsewhere import open_transaction
from looking import state
from steps import LEASE
from work import nothing, orders, quick_handler_of

from models.claiming import claim
from worker import attempting, hands
from worker.attempting import attempt
from worker.events import Event
from worker.handling import drain

FLAG = Order.needs_receipt


def together(function):
    """Drain rows that are tried in one transaction."""
    handler = quick_handler_of(FLAG, function, atomic=True)
    return drain(handler, ring=lambda flag: False)


def effects(rows):
    return [Line.select().where(Line.order == row.id).count() for row in rows]


def test_what_many_rows_write_is_there_once(database):
    rows = orders(5)
    assert together(lambda row: Line.create(order=row.id)) == {Event.FINISHED: 5}
    assert effects(rows) == [1] * 5


def test_a_row_that_fails_is_alone_with_its_failure(database):
    rows = orders(5)

    def handler(row):
        Line.create(order=row.id)
        if row.id == rows[2].id:
            raise ValueError

    assert together(handler) == {Event.FINISHED: 4, Event.RELEASED: 1}
    assert effects(rows) == [1, 1, 0, 1, 1]
    assert [state(FLAG, row).flag for row in rows] == [False, False, True] + [False] * 2


def test_a_row_of_a_group_that_is_undone_is_tried_alone_as_it_was_claimed(database):
    """What the handler did to the instances is undone with what it wrote."""
    rows = orders(3)
    seen, names = [], set()

    def charge(order):
        seen.append((order.total, order.customer, getattr(order, "charged", None)))
        names.add(FLAG.key_of_mark(order))
        order.total += 10
        order.customer += "!"
        order.charged = True
        if order == rows[2]:
            raise ValueError("boom")

    assert together(charge) == {Event.FINISHED: 2, Event.RELEASED: 1}
    assert seen == [(0, "dan", None)] * 6
    assert len(names) == 3
    after = [(row.total, row.customer) for row in Order.select().order_by(Order.id)]
    assert after == [(10, "dan!"), (10, "dan!"), (0, "dan")]


@pytest.mark.parametrize("session_database", ["postgresql", "mysql"], indirect=True)
def test_a_row_that_is_locked_for_a_moment_does_not_undo_its_group(
    database, monkeypatch
):
    """As when its lease is renewed just then; on SQLite nobody locks anything while a
    transaction writes."""
    rows, seen, locked = orders(3), [], ExitStack()

    def lock():
        list(Order.select().where(Order.id == rows[0].id).for_update())

    def handler(row):
        seen.append(row.id)
        if row == rows[2]:
            locked.enter_context(open_transaction(database, lock))

    def sleep(seconds):
        if seconds:
            locked.close()

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=sleep)
    monkeypatch.setattr(attempting, "time", clock)
    with locked:
        assert together(handler) == {Event.FINISHED: 3}
    assert seen == [row.id for row in rows]


def test_a_flag_or_an_expression_that_is_assigned_is_saved(database):
    rows = orders(3)

    def handler(row):
        row.total = Order.total + 5
        row.needs_label = True

    assert together(handler) == {Event.FINISHED: 3}
    assert {order.total for order in Order.select()} == {5}
    assert all(state(Order.needs_label, row).flag for row in rows)


def test_a_handler_that_rolls_back_takes_nobody_s_work_with_it(database):
    """The rows before it: cleared, and their effects are not there."""
    rows = orders(5)

    def handler(row):
        Line.create(order=row.id)
        if row.id == rows[2].id:
            database.rollback()

    together(handler)
    counts = [
        (n, state(FLAG, row).flag) for n, row in zip(effects(rows), rows, strict=True)
    ]
    del counts[2]  # its own affair
    assert counts == [(1, False)] * 4


def test_a_handler_that_commits_exposes_no_row_after_it(database):
    """What it commits of the rows before it cannot be had back."""
    rows = orders(4)

    def handler(row):
        Line.create(order=row.id)
        if row.id == rows[1].id:
            database.commit()
        if row.id == rows[3].id:
            raise ValueError

    together(handler)
    assert effects(rows)[2] == 1


def test_a_savepoint_that_is_left_open_is_everybody_s_commit(database):
    rows = orders(4)

    def handler(row):
        Line.create(order=row.id)
        if row.id == rows[1].id:
            database.atomic().__enter__()

    assert together(handler) == {Event.FINISHED: 4}
    assert effects(rows) == [1] * 4
    assert not database.in_transaction()


def test_a_process_that_is_to_end_gives_a_group_back(database, monkeypatch):
    monkeypatch.setattr(hands, "stopping", threading.Event())
    rows = orders(3)
    claims = claim(FLAG, limit=3, lease=LEASE)
    hands.stopping.set()
    handler = quick_handler_of(FLAG, nothing, atomic=True)
    assert attempt(handler, claims, ring=lambda flag: True) == {}
    for row in rows:
        after = state(FLAG, row)
        assert (after.flag, after.lease, after.attempts) == (True, None, 0)
