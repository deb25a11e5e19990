"""What applications do to rows that are pending or at work: on every database."""

from __future__ import annotations

import os
import threading
import uuid
from datetime import timedelta

import pytest
from domain import Line, Order
from elsewhere import in_threads
from faulty import Shop
from looking import IDLE, is_freshly_marked, kind_of, run_sql, state, write
from peewee import Entity, Value
from steps import claim_one, marked_and_claimed
from stock import Parcel, Task
from work import HOUR, drained

from models.claiming import claim, is_due
from models.finishing import finish, give_back
from models.marking import mark_pending, unmark
from worker import GiveUp, RetryLater
from worker.events import Event
from worker.handlers import Handler
from worker.handling import drain

FLAG, OTHER = Order.needs_receipt, Order.needs_label


class Runs:
    """A handler that says when it begins, waits to be let go, and counts."""

    def __init__(self, first: BaseException | None = None) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.first, self.count, self.now, self.most = first, 0, 0, 0
        self._lock = threading.Lock()

    def __call__(self, row):
        with self._lock:
            self.count += 1
            self.now += 1
            self.most = max(self.most, self.now)
            number = self.count
        self.begun.set()
        assert self.go.wait(60)
        with self._lock:
            self.now -= 1
        if number == 1 and self.first:
            raise self.first


def drained_by_many(database, runs, meanwhile, done):
    """Drain in three threads until `done()`; `meanwhile()` happens during a run."""

    def act(number):
        if number:
            while not done():
                drained(FLAG, runs)
            return
        assert runs.begun.wait(60)
        meanwhile()
        runs.go.set()

    in_threads(database, 4, act)


ENDS = [None, ValueError("boom"), RetryLater(HOUR), GiveUp("no")]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
def test_a_row_marked_while_it_is_handled_runs_exactly_once_more(database, end):
    row, runs = Order.create(needs_receipt=True), Runs(end)

    def mark_twice():
        mark_pending(row, FLAG)
        mark_pending(row, FLAG)

    drained_by_many(database, runs, mark_twice, lambda: state(FLAG, row) == IDLE)
    assert (runs.count, runs.most) == (2, 1)
    assert drained(FLAG, runs) == {}


def test_a_row_marked_while_held_runs_once_after_it_is_given_back(database):
    row, runs = Order.create(), Runs()
    held = marked_and_claimed(FLAG, row)
    mark_pending(row, FLAG)
    assert give_back(held)
    runs.go.set()
    assert drained(FLAG, runs) == {Event.FINISHED: 1}
    assert state(FLAG, row) == IDLE


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
def test_a_delay_given_while_the_row_is_handled_is_kept(database, end):
    row, runs = Order.create(needs_receipt=True), Runs(end)

    def delay():
        mark_pending(row, FLAG, delay=HOUR)

    def is_over():
        return runs.count == 1 and state(FLAG, row).lease is None

    drained_by_many(database, runs, delay, is_over)
    assert is_freshly_marked(FLAG, row)
    assert not is_due(FLAG)
    write(FLAG, row, due=1)
    assert drained(FLAG, runs) == {Event.FINISHED: 1}
    assert (runs.count, state(FLAG, row)) == (2, IDLE)


def test_a_row_unmarked_and_marked_again_while_it_is_handled_runs_once_more(database):
    row, runs = Order.create(needs_receipt=True), Runs()

    def change_mind():
        unmark(row, FLAG)
        mark_pending(row, FLAG)

    drained_by_many(database, runs, change_mind, lambda: state(FLAG, row) == IDLE)
    assert (runs.count, runs.most) == (2, 1)


def test_a_row_unmarked_while_it_is_handled_runs_no_more(database):
    row = Order.create(needs_receipt=True)
    assert drained(FLAG, lambda found: unmark(found, FLAG)) == {Event.FINISHED: 1}
    assert state(FLAG, row) == IDLE


def test_a_row_deleted_before_its_turn_is_no_work(database):
    rows = [Order.create(needs_receipt=True) for _ in range(3)]
    rows[1].delete_instance()
    assert drained(FLAG, lambda row: None) == {Event.FINISHED: 2}


def test_a_row_deleted_while_it_is_handled_is_no_error(database, caplog):
    Order.create(needs_receipt=True)
    Order.create(needs_receipt=True)
    ended = drained(
        FLAG, lambda row: Order.delete().where(Order.id == row.id).execute()
    )
    assert ended == {Event.LOST: 2}
    assert "Traceback" not in caplog.text


def test_a_row_whose_key_changed_while_it_is_handled_is_done_under_the_new_one(
    database,
):
    row = Order.create(needs_receipt=True)
    new = row.id + 1_000
    seen = []

    def handler(found):
        seen.append(found.id)
        if len(seen) == 1:
            Order.update(id=new).where(Order.id == row.id).execute()

    assert drained(FLAG, handler) == {Event.LOST: 1}
    moved = Order.get_by_id(new)
    assert state(FLAG, moved).flag, "nothing is lost"
    write(FLAG, moved, until=1)
    assert drained(FLAG, handler) == {Event.FINISHED: 1}
    assert seen == [row.id, new]
    assert state(FLAG, moved) == IDLE


def test_two_flags_of_a_row_are_held_and_cleared_each_by_itself(database):
    row = Order.create(needs_receipt=True, needs_label=True)
    one, other = claim_one(FLAG), claim_one(OTHER)
    one.row.customer, other.row.total = "eve", 7
    assert finish(one)
    assert state(FLAG, row) == IDLE
    assert state(OTHER, row).lease == other.token
    assert finish(other)
    assert state(OTHER, row) == IDLE
    saved = Order.get_by_id(row.id)
    assert (saved.customer, saved.total) == ("eve", 7)


@pytest.mark.parametrize("way", ["assigned", "saved", "marked"])
def test_a_handler_that_marks_another_flag_of_its_row_rings_for_it(
    database, bells, way
):
    row = Order.create(needs_receipt=True)
    bells.clear()

    def handler(found):
        if way == "marked":
            mark_pending(found, OTHER)
            return
        found.needs_label = True
        if way == "saved":
            found.save()

    assert drained(FLAG, handler) == {Event.FINISHED: 1}
    assert state(FLAG, row) == IDLE
    assert is_freshly_marked(OTHER, row)
    assert bells == [OTHER.label]


def test_a_handler_that_marks_its_own_row_rings_for_it(database, bells):
    row, runs = Order.create(needs_receipt=True), []
    bells.clear()

    def handler(found):
        found.needs_receipt = not runs
        runs.append(found.id)

    assert drained(FLAG, handler) == {Event.FINISHED: 2}
    assert (runs, bells) == ([row.id] * 2, [FLAG.label])
    assert state(FLAG, row) == IDLE


# Stale instances, raw SQL.


def test_a_stale_save_erases_no_mark(database):
    row = Order.create()
    stale, built = Order.get_by_id(row.id), Order(id=row.id, customer="eve")
    mark_pending(Order.get_by_id(row.id), FLAG)
    before = state(FLAG, row)
    stale.total = 7
    stale.needs_receipt = False
    assert (built.save(), stale.save()) == (1, 1)
    assert state(FLAG, row) == before
    saved = Order.get_by_id(row.id)
    assert (saved.customer, saved.total) == ("eve", 7)


def test_a_stale_save_brings_no_mark_back(database):
    row = Order.create(needs_receipt=True)
    stale = Order.get_by_id(row.id)
    assert drained(FLAG, lambda found: None) == {Event.FINISHED: 1}
    stale.total = 7
    assert stale.save() == 1
    assert state(FLAG, row) == IDLE


def test_a_handler_that_saves_its_row_leaves_a_new_mark_alone(database):
    row, runs = Order.create(needs_receipt=True), []

    def handler(found):
        runs.append(found.id)
        if len(runs) == 1:
            mark_pending(Order.get_by_id(row.id), FLAG)
        found.customer = "eve"
        found.save()

    assert drained(FLAG, handler) == {Event.FINISHED: 2}
    assert state(FLAG, row) == IDLE


def test_rows_inserted_by_raw_sql_are_done(database):
    table, columns = Entity("order"), (Entity("customer"), Entity("total"))
    values = "SELECT", Entity("customer"), ",", Entity("total"), ", TRUE FROM", table
    Order.insert_many([{"customer": f"c{n}"} for n in range(50)]).execute()
    into = ("INSERT INTO", table, "(", columns[0], ",", columns[1], ",")
    run_sql(database, *into, Entity("needs_receipt"), ")", *values)
    assert drained(FLAG, lambda row: None) == {Event.FINISHED: 50}
    assert not is_due(FLAG)


@pytest.mark.parametrize("value", [2, "yes"])
def test_odd_truth_values_are_refused(database, value):
    row = Order.create()
    name = Entity("needs_receipt")
    if (kind_of(database), value) == ("postgresql", "yes"):
        value = "odd"  # there 'yes' is true
    with pytest.raises(Exception, match=r"(?i)check|constraint|boolean|incorrect"):
        run_sql(
            database, "UPDATE", Entity("order"), "SET", name, "=", Value(value, False)
        )
    database.rollback() if database.in_transaction() else None
    assert state(FLAG, row) == IDLE


# Handlers that are atomic.


def atomically(function, **options):
    """Drain the flag through an atomic handler."""
    handler = Handler(FLAG, function, wait=HOUR, longest_wait=HOUR, atomic=True)
    return drain(handler, ring=lambda flag: False)


def writing(row):
    Line.create(order=row, text="receipt")
    row.customer = "eve"


def written(row):
    """What the handler wrote: lines, and the field."""
    return Line.select().count(), Order.get_by_id(row.id).customer


def test_an_atomic_handler_s_writes_commit_with_the_clearing(database):
    row = Order.create(needs_receipt=True)
    assert atomically(writing) == {Event.FINISHED: 1}
    assert (*written(row), state(FLAG, row)) == (1, "eve", IDLE)


@pytest.mark.parametrize("error", [ValueError("boom"), GiveUp("no"), SystemExit(1)])
def test_an_atomic_handler_that_fails_has_written_nothing(database, error):
    row = Order.create(needs_receipt=True)

    def handler(found):
        writing(found)
        raise error

    (event,) = atomically(handler)
    assert event in {Event.RELEASED, Event.PARKED}
    assert written(row) == (0, "dan")
    after = state(FLAG, row)
    assert (after.flag, after.lease) == (True, None)
    assert str(error) in after.error


def test_an_atomic_handler_that_lost_its_lease_has_written_nothing(database, caplog):
    row = Order.create(needs_receipt=True)

    def handler(found):
        writing(found)
        write(FLAG, found, lease=1)

    assert atomically(handler) == {Event.LOST: 1}
    assert written(row) == (0, "dan")
    assert "lost flag=" in caplog.text
    assert state(FLAG, row).flag


@pytest.mark.parametrize("kind", ["failed", "lost"])
def test_what_was_assigned_is_dropped_with_the_run(database, kind):
    row = Order.create(needs_receipt=True)

    def handler(found):
        found.customer = "eve"
        found.needs_label = True
        if kind == "failed":
            raise ValueError
        write(FLAG, found, lease=1)

    drained(FLAG, handler)
    assert Order.get_by_id(row.id).customer == "dan"
    assert state(OTHER, row) == IDLE


# Fairness.


def test_a_suspect_that_nobody_parks_does_not_starve_the_others(database):
    suspect = Order.create(needs_receipt=True)
    claim(FLAG, limit=1, lease=timedelta(seconds=1))
    write(FLAG, suspect, until=1, due=1)
    others = [Order.create(needs_receipt=True) for _ in range(3)]
    seen = []
    assert drained(FLAG, seen.append) == {Event.FINISHED: 4}
    assert seen[0] == others[0], "some work is done before it may die"


@pytest.mark.parametrize("redis", [True, False], ids=["with redis", "without redis"])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mysql"])
def test_a_flag_with_many_rows_does_not_starve_one_with_few(
    tmp_path, server_url, kind, redis
):
    """With one thread for both."""
    settings = {"REDIS_NAMESPACE": f"shop-{uuid.uuid4()}"}
    if redis:
        settings["REDIS_URL"] = os.environ["REDIS_URL"]
    with Shop(tmp_path, server_url(kind), **settings) as shop:
        with shop.bound(), shop.database.atomic():
            rows = [{"name": f"slow-{n}", "needs_work": True} for n in range(1_000)]
            Task.insert_many(rows).execute()
        shop.work("--threads", "1")
        shop.began("slow-0")
        shop.order("fine-1", model=Parcel)
        shop.until_idle("fine-1", model=Parcel, seconds=15)
        assert len(shop.notes()) < 300, "long before the many are done"
        shop.began("slow-30")
