"""Step 2, commit: who hears of a mark, and when, on every database."""

from __future__ import annotations

import pytest
from domain import Order, Page
from elsewhere import in_threads, open_transaction
from looking import IDLE, is_freshly_marked, only, state
from peewee import PeeweeException, SqliteDatabase
from steps import HOUR, claim_one, marked_and_claimed

from models import PendingFlag, PendingModel
from models.committing import _listeners, on_mark
from models.finishing import finish, release
from models.marking import mark_pending, unmark

RECEIPT, LABEL = Order.needs_receipt, Order.needs_label


def receipts():
    return [RECEIPT.label]


def test_a_listener_hears_of_a_mark_after_the_commit_only(database, bells):
    with database.atomic():
        Order.create(needs_receipt=True)
        assert bells == []
    assert bells == receipts()


def test_without_a_transaction_it_hears_at_once(database, bells):
    row = Order.create(needs_receipt=True)
    assert bells == receipts()
    mark_pending(row, RECEIPT)
    assert bells == receipts() * 2


def test_many_marks_in_one_transaction_ring_one_bell_a_flag(database, bells):
    with database.atomic():
        for _ in range(5):
            mark_pending(Order(), RECEIPT)
            mark_pending(Order.select(), LABEL)
            Order.bulk_create([Order(needs_receipt=True)])
    assert sorted(bells) == sorted([RECEIPT.label, LABEL.label])


def test_a_rollback_drops_the_bell(database, bells):
    with database.atomic() as transaction:
        Order.create(needs_receipt=True)
        transaction.rollback()
    assert bells == []


def test_an_error_drops_the_bell_and_the_next_transaction_rings_anew(database, bells):
    def fail():
        with database.atomic():
            Order.create(needs_receipt=True)
            raise LookupError("the application's own")

    with pytest.raises(LookupError):
        fail()
    assert bells == []
    with database.atomic():
        Order.create(needs_receipt=True)
    assert bells == receipts()


def test_a_mark_after_a_rollback_in_the_same_block_rings(database, bells):
    with database.atomic() as transaction:
        Order.create(needs_receipt=True)
        transaction.rollback()
        Order.create(needs_receipt=True)
    assert bells == receipts()
    assert Order.select().count() == 1


def test_a_commit_in_the_middle_of_a_block_rings_for_each_half(database, bells):
    with database.atomic() as transaction:
        Order.create(needs_receipt=True)
        transaction.commit()
        assert bells == receipts()
        Order.create(needs_receipt=True)
    assert bells == receipts() * 2


def test_an_inner_block_rings_at_the_outermost_commit(database, bells):
    with database.atomic():
        with database.atomic():
            Order.create(needs_receipt=True)
        assert bells == []
        with database.savepoint():
            Order.create(needs_receipt=True)
        assert bells == []
    assert bells == receipts()


def test_a_mark_beside_a_savepoint_that_rolled_back_rings(database, bells):
    """The savepoint's own mark is gone; a bell too many would do no harm."""
    with database.atomic():
        with database.atomic() as inner:
            Order.create(needs_receipt=True)
            inner.rollback()
        Order.create(needs_receipt=True)
    assert bells == receipts()


def test_what_changed_no_row_rings_no_bell(database, bells):
    Order.update(needs_receipt=True).execute()
    mark_pending(Order.select(), RECEIPT)
    Order.create()
    Order.create(needs_receipt=False)
    assert bells == []


def test_only_marks_ring(database, bells):
    row = Order.create(needs_receipt=True)
    bells.clear()
    unmark(row, RECEIPT)
    row.customer = "eve"
    row.save()
    Order.update(needs_receipt=False).execute()
    release(marked_and_claimed(LABEL, row), wait=HOUR, error="x")
    assert bells == [LABEL.label]


def test_a_finish_that_marks_another_flag_rings_its_bell(database, bells):
    row = Order.create()
    held = marked_and_claimed(RECEIPT, row)
    bells.clear()
    held.row.needs_label = True
    with database.atomic():
        assert finish(held)
        assert bells == []
    assert bells == [LABEL.label]
    assert is_freshly_marked(LABEL, row)
    assert state(RECEIPT, row) == IDLE


def test_a_finish_that_marks_its_own_row_again_rings_its_bell(database, bells):
    row = Order.create()
    held = marked_and_claimed(RECEIPT, row)
    bells.clear()
    held.row.needs_receipt = True
    assert finish(held)
    assert bells == receipts()
    assert finish(claim_one(RECEIPT))


@pytest.fixture
def failing_listener():
    """A listener that raises, and is told before all others."""

    def listener(flag):
        raise RuntimeError(f"no bell for {flag.name}")

    _listeners.insert(0, listener)
    yield listener
    _listeners.remove(listener)


def test_a_listener_that_fails_reaches_neither_the_caller_nor_the_others(
    database, failing_listener, bells, caplog
):
    with database.atomic():
        Order.create(needs_receipt=True, needs_label=True)
    assert sorted(bells) == sorted([RECEIPT.label, LABEL.label])
    Order.create(needs_receipt=True)
    assert len(bells) == 3
    failures = [record.getMessage() for record in caplog.records]
    assert failures.count(f"a listener failed flag={RECEIPT.label}") == 2
    assert "no bell for needs_receipt" in caplog.text


def test_after_commit_callbacks_of_the_application_run_beside_a_failing_listener(
    database, failing_listener
):
    heard = []
    with database.atomic():
        Order.create(needs_receipt=True)
        database.after_commit(lambda: heard.append("mine"))
    assert heard == ["mine"]


def test_a_manual_commit_marks_without_a_bell(database, bells):
    """Nobody can tell when it comes; the sweep finds the row."""
    with database.manual_commit():
        database.begin()
        row = Order.create(needs_receipt=True)
        mark_pending(row, RECEIPT)
        database.commit()
    assert is_freshly_marked(RECEIPT, row)
    assert bells == []
    mark_pending(row, RECEIPT)
    assert bells == receipts()


def test_each_thread_s_transaction_rings_for_itself(database, bells):
    def sign_up(number):
        with database.atomic():
            Page.create(path=str(number), needs_index=True)

    in_threads(database, 4, sign_up)
    assert bells == [Page.needs_index.label] * 4


@only("postgresql", "mysql")
def test_a_transaction_rings_while_another_thread_s_is_still_open(database, bells):
    """SQLite knows one writing transaction at a time."""
    label = Page.needs_index.label
    with open_transaction(database, lambda: Page.create(path="a", needs_index=True)):
        with database.atomic():
            Page.create(path="b", needs_index=True)
        assert bells == [label]
    assert bells == [label, label]


def test_a_mark_within_a_listener_is_heard(database, bells):
    def listener(flag):
        if flag is RECEIPT:
            with database.atomic():
                mark_pending(Order.select(), LABEL)

    on_mark(listener)
    try:
        with database.atomic():
            row = Order.create(needs_receipt=True)
    finally:
        _listeners.remove(listener)
    assert sorted(bells) == sorted([RECEIPT.label, LABEL.label])
    assert is_freshly_marked(LABEL, row)


def test_each_database_s_commit_rings_for_its_own_flags(database, tmp_path, bells):
    class Note(PendingModel):
        needs_x = PendingFlag()

    other = SqliteDatabase(tmp_path / "other.db")
    with other.connection_context(), other.bind_ctx([Note]), database.atomic():
        other.create_tables([Note])
        Order.create(needs_receipt=True)
        with other.atomic():
            Note.create(needs_x=True)
            assert bells == []
        assert bells == ["other/note.needs_x"]
        Note.create(needs_x=True)
        assert bells == ["other/note.needs_x"] * 2
    assert bells[2:] == receipts()


def test_a_transaction_cut_by_a_lost_connection_rings_no_bell(database, bells):
    """The next transaction of the same thread does."""

    def lose_the_connection():
        with database.atomic():
            Order.create(needs_receipt=True)
            database.connection().close()
            Order.create(needs_receipt=True)

    with pytest.raises(PeeweeException):
        lose_the_connection()
    assert bells == []
    database.close()
    database.connect()
    Order.create(needs_receipt=True)
    assert bells == receipts()


def test_on_mark_gives_its_listener_back():
    def listener(flag):
        raise AssertionError(flag)

    assert on_mark(listener) is listener
    _listeners.remove(listener)
