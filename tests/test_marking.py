"""Step 1, mark: rows and queries, on every database."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import peewee
import pytest
from domain import FLAGS, Line, Order, Page, Seat, Ticket
from elsewhere import in_threads
from looking import (
    IDLE,
    is_freshly_marked,
    now_of,
    run_sql,
    state,
    statements,
    write,
)
from peewee import Entity
from steps import HOUR, claim_one, marked_and_claimed

from models import NEVER, FlagError, NotAFlag, UnsavedRow
from models.claiming import is_due
from models.finishing import finish
from models.marking import mark_pending, unmark

FLAG = Order.needs_receipt
HOUR_MS = 3_600_000


# Rows.


@pytest.mark.parametrize("kind", FLAGS)
def test_a_saved_row_is_marked_by_one_statement(database, kind):
    flag, new = FLAGS[kind]
    new().save(force_insert=True)
    row = flag.model.get()
    with statements(database) as sent:
        assert mark_pending(row, flag) == 1
    assert len(sent) == 1
    assert is_freshly_marked(flag, row)
    assert getattr(row, flag.name) is True
    assert not row.is_dirty()


@pytest.mark.parametrize("kind", FLAGS)
def test_a_new_row_is_inserted_with_its_flag_in_one_statement(database, kind, bells):
    flag, new = FLAGS[kind]
    row = new()
    with statements(database) as sent:
        assert mark_pending(row, flag) == 1
    assert [sql[:6] for sql in sent if not sql.startswith("UPDATE")] == ["INSERT"]
    assert sent[-1].startswith("INSERT")
    assert is_freshly_marked(flag, row)
    assert flag.model.select().count() == 1
    assert bells[-1] == flag.label
    assert not row.is_dirty()


@pytest.mark.parametrize("kind", FLAGS)
def test_a_new_row_may_be_due_later(database, kind):
    flag, new = FLAGS[kind]
    row = new()
    assert mark_pending(row, flag, delay=HOUR) == 1
    assert state(flag, row).due - state(flag, row).at == HOUR_MS
    assert not is_due(flag)
    assert f"{flag.name}_due" not in row.__data__
    row = flag.model.get()
    row.save()
    assert state(flag, row).due - state(flag, row).at == HOUR_MS


@pytest.mark.parametrize("kind", FLAGS)
def test_a_row_that_is_pending_already_counts(database, kind):
    flag, new = FLAGS[kind]
    row = new()
    assert [mark_pending(row, flag) for _ in range(3)] == [1, 1, 1]
    assert mark_pending(flag.model.select(), flag) == 1


@pytest.mark.parametrize("kind", FLAGS)
def test_a_deleted_row_is_not_marked_and_stays_deleted(database, kind):
    flag, new = FLAGS[kind]
    new().save(force_insert=True)
    row = flag.model.get()
    flag.model.delete().execute()
    assert mark_pending(row, flag) == 0
    assert unmark(row, flag) == 0
    assert flag.model.select().count() == 0


def test_a_row_described_by_its_key_alone_is_found(database):
    page, seat = Page.create(path="a"), Seat.create(room="a", number=2)
    assert mark_pending(Page(path="a"), "needs_index") == 1
    assert mark_pending(Seat(room="a", number=2), "needs_cleaning") == 1
    assert is_freshly_marked(Page.needs_index, page)
    assert is_freshly_marked(Seat.needs_cleaning, seat)


def test_of_a_saved_row_only_the_flag_is_written(database):
    row = Order.create(customer="dan")
    row.customer = "eve"
    mark_pending(row, FLAG)
    assert Order.get().customer == "dan"
    assert [field.name for field in row.dirty_fields] == ["customer"]


def test_a_new_row_that_the_database_refuses_is_not_marked(database, bells):
    row = Line(order=10**9)
    with pytest.raises(peewee.IntegrityError), database.atomic():
        mark_pending(row, Line.needs_stock)
    assert Line.select().count() == 0
    assert bells == []
    assert "needs_stock_due" not in row.__data__


def test_the_flag_may_be_given_by_its_name_its_label_or_as_an_inherited_field(database):
    row = Order.create()
    for flag in ("needs_label", Order.needs_label, Order.needs_label.label):
        assert mark_pending(row, flag) == 1
        assert is_freshly_marked(Order.needs_label, row)
        assert unmark(row, flag) == 1
    base_s_own = Order.__mro__[1].needs_label
    assert mark_pending(row, base_s_own) == 1
    assert is_freshly_marked(Order.needs_label, row)
    assert state(FLAG, row) == IDLE


# What raw SQL may write.


def test_a_bare_true_on_an_idle_row_is_a_mark(database):
    row = Order.create()
    run_sql(database, "UPDATE", Entity("order"), "SET needs_receipt = true")
    assert is_due(FLAG)
    held = claim_one(FLAG)
    assert held.attempt == 1
    assert state(FLAG, row).at > 0
    assert finish(held)
    assert state(FLAG, row) == IDLE


def test_a_bare_true_on_a_running_row_is_the_run_under_way(database):
    row = Order.create()
    held = marked_and_claimed(FLAG, row)
    run_sql(database, "UPDATE", Entity("order"), "SET needs_receipt = true")
    assert finish(held)
    assert state(FLAG, row) == IDLE


# Times.


def test_a_delay_counts_from_the_database_s_now(database):
    row = Order.create()
    mark_pending(row, FLAG, delay=timedelta(milliseconds=1500))
    assert state(FLAG, row).due - state(FLAG, row).at == 1500
    assert not is_due(FLAG)
    write(FLAG, row, due=now_of(database, FLAG))
    assert is_due(FLAG)


def test_an_instant_is_kept_to_the_millisecond(database):
    row = Order.create()
    at = datetime(2999, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    east = at.astimezone(tz=None)
    for instant in (at, east):
        mark_pending(row, FLAG, at=instant)
        assert state(FLAG, row).due == 32_472_241_445_678


def test_an_instant_in_the_past_is_due_at_once(database):
    mark_pending(Order.create(), FLAG, at=datetime(1969, 7, 20, tzinfo=UTC))
    assert is_due(FLAG)


def test_the_last_mark_s_time_wins_on_a_row_that_nobody_holds(database):
    row = Order.create()
    mark_pending(row, FLAG, delay=HOUR)
    mark_pending(row, FLAG)
    assert is_due(FLAG)
    mark_pending(row, FLAG, delay=HOUR)
    assert not is_due(FLAG)


def test_each_mark_has_a_time_of_its_own_even_if_the_clock_goes_back(database):
    row = Order.create(needs_receipt=True)
    ahead = state(FLAG, row).at + HOUR_MS
    write(FLAG, row, at=ahead)
    mark_pending(row, FLAG)
    assert state(FLAG, row).at == ahead + 1


def test_a_parked_row_is_due_again_once_marked(database):
    row = Order.create(needs_receipt=True)
    write(FLAG, row, due=NEVER, attempts=9)
    mark_pending(row, FLAG)
    assert is_due(FLAG)
    assert state(FLAG, row).attempts == 0


# Running rows.


def test_a_running_row_that_is_marked_is_run_once_more_afterwards(database):
    row = Order.create()
    held = marked_and_claimed(FLAG, row)
    for _ in range(3):
        assert mark_pending(row, FLAG) == 1
    assert state(FLAG, row).attempts == -1
    assert state(FLAG, row).lease == held.token
    assert finish(held)
    assert finish(claim_one(FLAG))
    assert state(FLAG, row) == IDLE


def test_an_unmarked_running_row_keeps_its_lease(database):
    row = Order.create()
    held = marked_and_claimed(FLAG, row)
    assert unmark(row, FLAG) == 1
    assert state(FLAG, row).lease == held.token
    mark_pending(row, FLAG)
    assert not is_due(FLAG)
    assert finish(held)
    assert is_due(FLAG)


@pytest.mark.parametrize("kind", FLAGS)
def test_unmarking_counts_what_was_pending(database, kind):
    flag, new = FLAGS[kind]
    row = new()
    mark_pending(row, flag)
    assert [unmark(row, flag), unmark(row, flag)] == [1, 0]
    assert state(flag, row) == IDLE
    assert getattr(row, flag.name) is False


def test_a_mark_that_rolls_back_is_none(database, bells):
    row = Order.create()
    with database.atomic() as transaction:
        mark_pending(row, FLAG)
        mark_pending(Order(customer="new"), FLAG)
        transaction.rollback()
    assert state(FLAG, row) == IDLE
    assert Order.select().count() == 1
    assert bells == []


def test_marks_from_many_threads_are_one_run(database):
    row = Order.create()
    held = marked_and_claimed(FLAG, row)
    counts = in_threads(database, 6, lambda _: mark_pending(Order.get(), FLAG))
    assert counts == [1] * 6
    assert finish(held)
    assert finish(claim_one(FLAG))
    assert not is_due(FLAG)


# Errors.


@pytest.mark.parametrize("act", [mark_pending, unmark])
@pytest.mark.parametrize(
    "flag", ["total", "nonsense", Order.total, Ticket.needs_print, None, 3]
)
def test_what_is_no_flag_of_the_model_is_refused(database, act, flag):
    row = Order.create()
    words = f"Order has no flag {flag!r}; it has needs_label, needs_receipt"
    message = f"^{re.escape(words)}$"
    for target in (row, Order.select()):
        with pytest.raises(NotAFlag, match=message):
            act(target, flag)
    assert issubclass(NotAFlag, TypeError)
    assert issubclass(NotAFlag, FlagError)


@pytest.mark.parametrize("target", [Order, None, 1, "order", Order.update(total=1)])
def test_what_is_neither_row_nor_query_is_refused(target):
    message = r"^a row or a select query of a model with flags is marked, not "
    for act in (mark_pending, unmark):
        with pytest.raises(TypeError, match=message):
            act(target, FLAG)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"delay": HOUR, "at": datetime.now(UTC)}, "^give delay or at, not both$"),
        ({"delay": -HOUR}, "^delay is negative: -1 day, 23:00:00$"),
        (
            {"at": datetime(2030, 1, 1)},  # noqa: DTZ001 (naive is the point)
            "^at has no time zone: 2030-01-01 00:00:00$",
        ),
    ],
)
def test_impossible_times_are_refused_and_mark_nothing(database, times, message):
    row = Order.create()
    for target in (row, Order.select(), Order(customer="new")):
        with pytest.raises(ValueError, match=message):
            mark_pending(target, FLAG, **times)
    assert state(FLAG, row) == IDLE
    assert Order.select().count() == 1


@pytest.mark.parametrize("row", [Order(), Seat(room="a"), Page()])
def test_a_row_without_a_key_has_no_mark_to_take_back(database, row):
    (flag, *_) = reversed(type(row)._meta.flags)
    message = r"needs_\w+: the row was never saved, so it has no mark$"
    with pytest.raises(UnsavedRow, match=message):
        unmark(row, flag)
