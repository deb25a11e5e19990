"""The state machine of a row, walked at random beside a plain model of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from domain import Order
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from looking import IDLE, now_of, run_sql, state, write
from peewee import Entity
from steps import HOUR, LEASE

from models import NEVER
from models.claiming import claim, renew
from models.finishing import finish, give_back, park, postpone, release
from models.marking import mark_pending, unmark

FLAG = Order.needs_receipt
LEASE_MS, HOUR_MS = 30_000, 3_600_000


@dataclass(frozen=True)
class Row:
    """One row in plain Python; each method is one transition at the time `now`."""

    flag: bool = False
    at: int = 0
    due: int = 0
    attempts: int = 0
    crashes: int = 0
    until: int = 0
    lease: int | None = None
    error: str | None = None

    def mark(self, now, delay=0):
        return replace(
            self,
            flag=True,
            at=max(now, self.at + 1),
            due=now + delay,
            attempts=-abs(self.attempts) if self.lease else 0,
        )

    def raw_mark(self, _):
        return replace(self, flag=True)

    def unmark(self, _):
        if not self.flag:
            return self
        tried = abs(self.attempts) if self.lease else 0
        return replace(self, flag=False, at=0, due=0, attempts=tried, error=None)

    def may_be_claimed(self, now):
        return self.flag and self.due <= now and self.until <= now

    def claim(self, now, token):
        return replace(
            self,
            at=self.at or now,
            attempts=abs(self.attempts) + 1,
            crashes=self.crashes + 1 if self.lease else self.crashes,
            until=now + LEASE_MS,
            lease=token,
        )

    def renew(self, now):
        return replace(self, until=now + HOUR_MS)

    def finish(self, _):
        if self.attempts < 0:
            return Row(flag=self.flag, at=self.at, due=self.due)
        return Row()

    def release(self, now):
        return self._failed(now + HOUR_MS, self.attempts)

    def park(self, _):
        return self._failed(NEVER, self.attempts)

    def postpone(self, now):
        return self._failed(now + HOUR_MS, self.attempts - 1)

    def give_back(self, _):
        if not self.flag:
            return replace(self._let_go(), due=0, attempts=0)
        return replace(self._let_go(), attempts=max(self.attempts - 1, 0))

    def _failed(self, due, attempts):
        if not self.flag:
            return replace(self._let_go(), due=0, attempts=0, error=None)
        if self.attempts < 0:  # marked again: the fresh mark's time stands
            return replace(self._let_go(), attempts=0, error="failed")
        return replace(self._let_go(), due=due, attempts=attempts, error="failed")

    def _let_go(self):
        return replace(self, crashes=0, until=0, lease=None)


MARKS = {
    "row": lambda row: mark_pending(row, FLAG),
    "query": lambda _: mark_pending(Order.select(), FLAG),
    "update": lambda _: Order.update(needs_receipt=True).execute(),
    "save": lambda row: _assign(row, True).save(),
}
UNMARKS = {
    "row": lambda row: unmark(row, FLAG),
    "query": lambda _: unmark(Order.select(), FLAG),
    "update": lambda _: Order.update(needs_receipt=False).where(FLAG == True).execute(),  # noqa: E712 (MySQL's index wants it)
}
ENDS = {
    "finish": finish,
    "release": lambda held: release(held, wait=HOUR, error="failed"),
    "postpone": lambda held: postpone(held, wait=HOUR, error="failed"),
    "park": lambda held: park(held, error="failed"),
    "give_back": give_back,
    "renew": lambda held: renew(FLAG, [held], lease=HOUR) == [held],
}


def _assign(row, value):
    row.needs_receipt = value
    return row


class Walk(RuleBasedStateMachine):
    """Drives one row, and compares it with the model after every step."""

    def __init__(self, database):
        super().__init__()
        self.database = database

    @initialize()
    def create(self):
        Order.delete().execute()
        self.row, self.expected, self.claims = Order.create(), Row(), []
        self.load()

    def step(self, act, expect):
        """Do `act`; every column must lie between what it would be just before and
        just after: only the database knows the instant of its statement."""
        before = now_of(self.database, FLAG)
        result = act()
        low, high = expect(before), expect(now_of(self.database, FLAG))
        actual = Row(**vars(state(FLAG, self.row)))
        for column, value in asdict(actual).items():
            lowest, highest = getattr(low, column), getattr(high, column)
            between = value == lowest or (
                lowest is not None and lowest <= value <= highest
            )
            assert between, f"{column}: {actual} is not {low}"
        self.expected = actual
        return result

    @rule(way=st.sampled_from(sorted(MARKS)))
    def mark(self, way):
        assert self.step(lambda: MARKS[way](self.row), self.expected.mark) == 1

    @rule()
    def mark_with_delay(self):
        self.step(
            lambda: mark_pending(self.row, FLAG, delay=HOUR),
            lambda now: self.expected.mark(now, HOUR_MS),
        )

    @rule()
    def mark_by_raw_sql(self):
        self.step(
            lambda: run_sql(
                self.database, "UPDATE", Entity("order"), "SET needs_receipt = true"
            ),
            self.expected.raw_mark,
        )

    @rule(way=st.sampled_from(sorted(UNMARKS)))
    def unmark(self, way):
        was_pending = self.expected.flag
        count = self.step(lambda: UNMARKS[way](self.row), self.expected.unmark)
        assert count == was_pending

    @rule()
    def claim(self):
        due = self.expected.may_be_claimed(now_of(self.database, FLAG))
        claims = []

        def expected(now):
            return self.expected.claim(now, claims[0].token) if due else self.expected

        self.step(lambda: claims.extend(claim(FLAG, limit=2, lease=LEASE)), expected)
        assert len(claims) == due
        self.claims += claims

    @rule()
    def load(self):
        """Somebody loads the row, to save it later."""
        self.loaded = Order.get_by_id(self.row.id)

    @rule()
    def save_what_was_loaded(self):
        """However long ago that was, it changes no flag."""
        self.loaded.total += 1
        assert self.step(self.loaded.save, lambda _: self.expected) == 1

    @precondition(lambda self: len(self.claims) > 1)
    @rule()
    def delete(self):
        """The row is gone, and its claims are lost; another one comes."""
        Order.delete_by_id(self.row.id)
        assert not any(finish(held) for held in self.claims)
        self.create()

    @precondition(lambda self: self.claims)
    @rule(end=st.sampled_from(sorted(ENDS)), age=st.sampled_from([0, 0, 0, 1, 2]))
    def end(self, end, age):
        """End the latest claim, or one that may have been lost long ago."""
        held = self.claims[-1 - age % len(self.claims)]
        is_held = self.expected.lease == held.token
        transition = getattr(self.expected, end)
        ended = self.step(
            lambda: ENDS[end](held),
            transition if is_held else lambda _: self.expected,
        )
        assert ended == is_held

    @precondition(lambda self: self.expected.until)
    @rule()
    def the_lease_expires(self):
        write(FLAG, self.row, until=1)
        self.expected = replace(self.expected, until=1)

    @precondition(lambda self: 0 < self.expected.due < NEVER)
    @rule()
    def the_due_time_comes(self):
        write(FLAG, self.row, due=1)
        self.expected = replace(self.expected, due=1)

    @invariant()
    def a_row_of_nothing_to_do_that_nobody_holds_is_clean(self):
        if not self.expected.flag and self.expected.lease is None:
            assert vars(IDLE) == asdict(self.expected)

    @invariant()
    def a_row_that_nobody_holds_has_neither_crashed_nor_been_marked_again(self):
        if self.expected.lease is None:
            assert (self.expected.crashes, self.expected.until) == (0, 0)
            assert self.expected.attempts >= 0


def test_a_row_does_what_the_model_does_step_by_step(database):
    run_state_machine_as_test(
        lambda: Walk(database),
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
