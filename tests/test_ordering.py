"""Rows that are alike run one after the other, in the order of their marks."""

from __future__ import annotations

import itertools
import time

import peewee
import pytest
from domain import Order, Seat
from elsewhere import in_threads, open_transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from looking import now_of, write
from steps import HOUR, LEASE
from test_query_plan import analyze, plans

from models import NEVER, gating, ordering
from models.claiming import is_due, new_token
from models.finishing import finish, give_back, park, postpone, release
from models.gating import TABLES, Limits, Wish, claim_within, make_tables
from models.inspecting import inspected
from models.marking import mark_pending, unmark
from models.migrating import add_order, drop_order
from models.ordering import firsts

FLAG = Order.needs_receipt
KEYS = Limits(keys=(Order.customer,))


@pytest.fixture(autouse=True)
def ordered(database, monkeypatch):
    make_tables(database)
    for table in TABLES:
        table.delete().execute(database)
    monkeypatch.setattr(gating, "_FRUITLESS_SECONDS", 0)
    monkeypatch.setattr(gating, "_WINDOW", 1)
    ordering._firsts.cache_clear()  # it knows which indexes there are
    yield
    ordering._firsts.cache_clear()


def taken(limit=9, limits=KEYS):
    passage = claim_within(
        limits.keys[0].model.needs_receipt,
        limits,
        Wish(1, limit, len, LEASE, True, new_token()),
    )
    return sorted(passage.claims, key=lambda one: one.row.id)


def ids(claims):
    return [one.row.id for one in claims]


def order(customer, *, at, **values):
    row = Order.create(customer=customer, needs_receipt=True)
    write(FLAG, row, **{"at": at, "due": at, **values})
    return row


def test_of_rows_that_are_alike_the_one_marked_first_is_taken(database):
    late, early = order("dan", at=20), order("dan", at=10)
    other = order("eve", at=30)
    first = taken()
    assert ids(first) == [early.id, other.id]
    assert taken() == []
    for held in first:
        assert finish(held)
    assert ids(taken()) == [late.id]


def test_of_rows_marked_in_the_same_moment_the_least_key_is_first(database):
    rows = [order("dan", at=10) for _ in range(3)]
    for row in rows:
        (held,) = taken()
        assert held.row.id == row.id
        assert finish(held)


@pytest.mark.parametrize(
    "ends",
    [
        lambda held: release(held, wait=HOUR, error="failed"),
        lambda held: postpone(held, wait=HOUR, error="later"),
    ],
    ids=["release", "postpone"],
)
def test_one_that_waits_for_its_next_attempt_keeps_the_later_ones_waiting(
    database, ends
):
    first, _, other = order("dan", at=10), order("dan", at=20), order("eve", at=30)
    assert ends(taken(1)[0])
    assert ids(taken()) == [other.id]
    write(FLAG, first, due=1)
    assert ids(taken()) == [first.id]


def test_one_that_is_parked_keeps_nobody_waiting(database):
    order("dan", at=10)
    second = order("dan", at=20)
    (held,) = taken()
    assert park(held, error="given up")
    assert ids(taken()) == [second.id]


def test_one_whose_time_has_not_come_keeps_nobody_waiting(database):
    first, second = order("dan", at=10), order("dan", at=20)
    later = now_of(database, FLAG) + 3_600_000
    write(FLAG, first, due=later)
    (held,) = taken()
    assert held.row.id == second.id
    write(FLAG, first, due=1)
    assert taken() == []
    assert finish(held)
    assert ids(taken()) == [first.id]


def test_one_that_was_unmarked_while_it_is_held_runs_all_the_same(database):
    first, second = order("dan", at=10), order("dan", at=20)
    (held,) = taken()
    unmark(first, FLAG)
    assert taken() == []
    finish(held)
    assert ids(taken()) == [second.id]


def test_one_whose_worker_died_is_taken_first(database):
    first, _ = order("dan", at=10), order("dan", at=20)
    (held,) = taken()
    write(FLAG, first, until=1)
    (again,) = taken()
    assert again.row.id == first.id
    assert again.crashes == 1
    assert not finish(held)


def test_one_marked_again_while_it_runs_goes_to_the_end(database):
    first, second = order("dan", at=10), order("dan", at=20)
    (held,) = taken()
    mark_pending(first, FLAG)
    assert finish(held)
    (held,) = taken()
    assert held.row.id == second.id
    assert finish(held)
    assert ids(taken()) == [first.id]


def test_rows_given_back_keep_their_place(database):
    first, _ = order("dan", at=10), order("dan", at=20)
    (held,) = taken()
    assert give_back(held)
    assert ids(taken()) == [first.id]


def test_several_fields_are_alike_together(database):
    keys = Limits(keys=(Order.customer, Order.total))
    rows = [
        Order.create(customer=customer, total=total, needs_receipt=True)
        for customer, total in (("dan", 1), ("dan", 1), ("dan", 2), ("eve", 1))
    ]
    assert ids(taken(limits=keys)) == [rows[0].id, rows[2].id, rows[3].id]
    assert taken(limits=keys) == []


def test_a_key_of_two_columns_will_do(database):
    for number in (2, 1, 3):
        Seat.create(room="a", number=number, needs_cleaning=True)
    Seat.create(room="b", number=1, needs_cleaning=True)
    flag, done = Seat.needs_cleaning, []
    while is_due(flag):
        wish = Wish(1, 9, len, LEASE, True, new_token())
        claims = claim_within(flag, Limits(keys=(Seat.room,)), wish).claims
        assert len({held.row.room for held in claims}) == len(claims) > 0
        done += [held.key for held in claims]
        assert all(finish(held) for held in claims)
    assert sorted(done) == [("a", 1), ("a", 2), ("a", 3), ("b", 1)]


def test_many_that_are_blocked_hide_nobody(database):
    """More of them than a look takes in, and their own first comes after them."""
    rows = [order("dan", at=10 + n) for n in range(5)]
    rows += [order("eve", at=20 + n) for n in range(5)]
    last = order("zoe", at=50)
    write(FLAG, rows[0], due=now_of(database, FLAG) - 1, attempts=1)
    write(FLAG, rows[5], due=now_of(database, FLAG) + 3_600_000, attempts=1)
    assert ids(taken(1)) == [rows[0].id]
    assert ids(taken(1)) == [last.id]
    assert taken(1) == []


def test_threads_never_run_two_that_are_alike_at_the_same_time(database):
    """Each finds the rows as they were when it held the gate, and no earlier."""
    rows = [order(f"c{n % 3}", at=10 + n) for n in range(36)]
    spans = []

    def work(_):
        over = time.monotonic() + 100
        while is_due(FLAG) and time.monotonic() < over:
            claims = FLAG.dialect.at_read_committed(database, lambda: taken(2))
            begun = time.monotonic()
            for held in claims:
                time.sleep(0.002)
                spans.append((held.row.customer, held.row.id, begun, time.monotonic()))
                assert finish(held)

    in_threads(database, 5, work)
    assert len(spans) == len(rows)
    for customer in ("c0", "c1", "c2"):
        own = sorted((begin, end, id) for c, id, begin, end in spans if c == customer)
        assert [id for _, _, id in own] == sorted(id for _, _, id in own)
        for (_, end, _), (begin, _, _) in itertools.pairwise(own):
            assert end <= begin


class Walk(RuleBasedStateMachine):
    """Marks, claims and ends at random; what is taken is checked by plain Python."""

    @initialize()
    def begin(self):
        Order.delete().execute()
        self.rows, self.held, self.clock = [], [], 100
        for customer in ("dan", "dan", "dan", "eve", "eve", "zoe"):
            self.rows.append(Order.create(customer=customer))

    def facts(self):
        columns = [Order.id, Order.customer, FLAG, *FLAG.companions.values()]
        return {row.id: row for row in Order.select(*columns)}

    @rule(nth=st.integers(0, 5), ahead=st.booleans())
    def mark(self, nth, ahead):
        row = self.rows[nth]
        mark_pending(row, FLAG)
        self.clock += 1
        values = {"at": self.clock}
        now = self.facts()[row.id]
        if now.needs_receipt_lease is None or now.needs_receipt_attempts < 0:
            values["due"] = NEVER - 1 if ahead else 1
        write(FLAG, row, **values)

    @rule(nth=st.integers(0, 5))
    def raw_mark(self, nth):
        peewee.ModelUpdate(Order, {FLAG: True}).where(
            Order.id == self.rows[nth].id
        ).execute()

    @rule(nth=st.integers(0, 5))
    def take_mark_back(self, nth):
        unmark(self.rows[nth], FLAG)

    @rule(nth=st.integers(0, 5))
    def its_time_comes(self, nth):
        row = self.facts()[self.rows[nth].id]
        if row.needs_receipt and row.needs_receipt_due < NEVER:
            write(FLAG, row, due=1)

    @rule(limit=st.integers(1, 4))
    def take(self, limit):
        before = self.facts()
        claims = taken(limit)
        running = {held.row.customer for held in self.held}
        for held in claims:
            own = before[held.row.id]
            assert own.customer not in running, "alike to one that runs"
            running.add(own.customer)
            place = (own.needs_receipt_at, own.id)
            for other in before.values():
                alike = other.customer == own.customer and other.needs_receipt
                if alike and (other.needs_receipt_at, other.id) < place:
                    assert not waits(other, now_of(Order._meta.database, FLAG))
        if not claims:
            assert not self.free(before, running), "one that is free was not found"
        self.held += claims

    def free(self, before, running):
        """Customers with a row that is first and due, none of whom waits or runs."""
        now = now_of(Order._meta.database, FLAG)
        pending = [row for row in before.values() if row.needs_receipt]
        busy = running | {r.customer for r in pending if waits_later(r, now)}
        return {r.customer for r in pending if r.needs_receipt_due <= now} - busy

    @rule(
        end=st.sampled_from(
            [
                finish,
                give_back,
                lambda held: release(held, wait=HOUR, error="failed"),
                lambda held: postpone(held, wait=HOUR, error="later"),
                lambda held: park(held, error="parked"),
            ]
        )
    )
    def end(self, end):
        if self.held:
            assert end(self.held.pop(0))

    @invariant()
    def no_two_alike_are_held(self):
        customers = [held.row.customer for held in getattr(self, "held", [])]
        assert len(customers) == len(set(customers))


def waits_later(row, now):
    begun = row.needs_receipt_attempts or row.needs_receipt_error is not None
    return begun and now < row.needs_receipt_due < NEVER


def waits(row, now):
    return row.needs_receipt_due <= now or waits_later(row, now)


def test_a_random_walk_never_runs_two_that_are_alike_nor_forgets_one(database):
    run_state_machine_as_test(
        Walk,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_doctor_says_which_index_is_missing(database, monkeypatch):
    monkeypatch.setattr(FLAG, "serialize_by", (Order.customer,))
    named = "an index for serialize_by is missing"
    found = [one.remedy for one in inspected(FLAG) if named in one.text]
    assert len(found) == 2
    assert all(sql.startswith("CREATE INDEX") for sql in found)
    add_order(FLAG, Order.customer)
    try:
        assert not [one for one in inspected(FLAG) if named in one.text]
    finally:
        drop_order(FLAG, Order.customer)
    assert len([one for one in inspected(FLAG) if named in one.text]) == 2


def test_a_table_made_with_its_handler_known_has_the_indexes(database, monkeypatch):
    monkeypatch.setattr(FLAG, "serialize_by", (Order.customer,))
    names = [index._name for index in Order._meta.fields_to_index() if index._name]
    assert {"order_needs_receipt_order", "order_needs_receipt_held"} <= set(names)


@pytest.mark.parametrize("session_database", ["mysql"], indirect=True)
def test_a_claim_in_order_reads_those_alike_alone_also_right_after_a_bulk_mark(
    database,
):
    """MariaDB's statistics may be of amid the mark, when they know of nothing pending:
    then it read all that is pending for each row, in 22 s of 100,000."""
    add_order(FLAG, Order.customer)
    try:
        rows = [{"customer": f"c{n % 100}"} for n in range(3_000)]
        Order.insert_many(rows).execute()
        with open_transaction(database, lambda: mark_pending(Order.select(), FLAG)):
            analyze(database)
        firsts(FLAG, KEYS.keys, window=50)  # it asks which indexes there are, once
        (plan,) = plans(database, lambda: firsts(FLAG, KEYS.keys, window=50))
        (first,) = [line for line in plan if '"order_needs_receipt_order", "' in line]
        assert first.startswith('["ref", '), plan
    finally:
        drop_order(FLAG, Order.customer)
        Order.delete().execute()


def test_an_index_that_is_dropped_meanwhile_costs_a_claim_and_no_more(database):
    """MariaDB is told to use it, and fails if it is not there."""
    add_order(FLAG, Order.customer)
    try:
        row = order("dan", at=10)
        assert give_back(*taken())
    finally:
        drop_order(FLAG, Order.customer)
    try:
        found = ids(taken())
    except peewee.PeeweeException:
        found = ids(taken())
    assert found == [row.id]
