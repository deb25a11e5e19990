"""The application's own tests, written with `worker.testing`."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from lending import post
from lending.tables import Book, Fee, Letter, Loan, Member, Shelf, database

from models import NotAFlag
from worker import mark_pending
from worker.testing import (
    assert_idle,
    assert_parked,
    assert_pending,
    crashing,
    drain,
    due_in,
    flush,
    kicks,
    marks,
)

DAY = timedelta(days=1)


@pytest.fixture
def loan() -> Loan:
    ann = Member.create(name="Ann")
    return Loan.create(member=ann, book=Book.create(title="Emma"))


def test_a_marked_row_is_pending_until_it_is_drained(loan, sent):
    mark_pending(loan, Loan.needs_reminder)
    assert_pending(loan, Loan.needs_reminder, attempts=0)
    assert drain() == {"finished": 1}
    assert_idle(loan, Loan.needs_reminder)
    assert sent == ["remember Emma"]
    assert drain() == {}


def test_async_handlers_run_without_a_loop_of_their_own(sent):
    ann = Member.create(name="Ann", needs_greeting=True)
    assert drain(Member.needs_greeting) == {"finished": 1}
    assert Member.get_by_id(ann.id).greeting == "sent"
    assert sent == ["hello Ann"]


async def _drained_in_a_loop() -> None:
    drain()


def test_an_async_test_is_told_that_it_cannot_drain_async_handlers():
    drain()
    asyncio.run(_drained_in_a_loop())  # nothing is due
    Member.create(name="Ann", needs_greeting=True)
    with pytest.raises(RuntimeError, match=r"member\.needs_greeting is async"):
        asyncio.run(_drained_in_a_loop())


def test_batches_come_whole_and_what_failed_comes_again(sent):
    titles = ["Emma", "", "Persuasion"]
    emma, untitled, _ = [Book.create(title=t, needs_indexing=True) for t in titles]
    assert drain() == {"finished": 2, "released": 1}
    assert sent == ["3 books"]
    assert_idle(emma, "needs_indexing")
    assert_pending(untitled, "needs_indexing", attempts=1, error="untitled")


def test_what_one_handler_marks_the_next_one_does(loan, sent):
    mark_pending(loan, Loan.needs_fee)
    with marks() as made:
        drained = drain()
    assert drained == {"finished": 2}
    assert [run.flag for run in drained.runs] == [
        "loan.needs_fee",
        "loan.needs_receipt",
    ]
    assert made == [("loan.needs_receipt", loan.id)]
    assert Fee.get().cents == 50
    assert len(sent) == 1


def test_what_is_delayed_becomes_due_as_time_passes(loan, sent):
    mark_pending(loan, Loan.needs_reminder, delay=3 * DAY)
    due_in(2 * DAY)
    assert drain() == {}
    assert_pending(loan, Loan.needs_reminder)
    due_in(DAY)
    assert drain() == {"finished": 1}


def test_a_handler_that_waits_is_asked_again(loan, sent, monkeypatch):
    monkeypatch.setattr(post, "is_closed", True)
    mark_pending(loan, Loan.needs_reminder)
    assert drain() == {"postponed": 1}
    assert_pending(loan, Loan.needs_reminder, attempts=0, error="closed")
    monkeypatch.setattr(post, "is_closed", False)
    due_in(DAY)
    assert drain() == {"finished": 1}


def test_a_handler_that_fails_is_tried_again_and_at_last_parked(loan, monkeypatch):
    monkeypatch.setattr(post, "send", lambda text: 1 / 0)
    mark_pending(loan, Loan.needs_reminder)
    for attempts in (1, 2):
        assert drain() == {"released": 1}
        assert drain() == {}
        assert_pending(loan, Loan.needs_reminder, attempts=attempts)
        due_in(timedelta(hours=2))
    assert drain() == {"parked": 1}
    assert_parked(loan, Loan.needs_reminder, error="ZeroDivisionError")
    due_in(1000 * DAY)
    assert drain() == {}
    mark_pending(loan, Loan.needs_reminder)
    monkeypatch.undo()
    assert drain() == {"finished": 1}


def test_a_statement_that_fails_undoes_itself_alone(loan, monkeypatch, sent):
    """In a handler as in production; and the test's transaction is as it was."""
    with marks() as made:
        mark_pending(loan, Loan.needs_receipt)
    ((_, key),) = made
    (at,) = Loan.select(Loan.needs_receipt.at).where(Loan.id == key).tuples().get()
    Letter.create(key=f"{Loan.needs_receipt.label}:{loan.id}:{at}")
    assert drain() == {"finished": 1}
    assert len(sent) == 1
    assert Letter.select().count() == 1


def test_an_atomic_handler_that_fails_has_written_nothing(loan, monkeypatch):
    create = Fee.create

    def create_and_fail(**values: object) -> None:
        create(**values)
        raise ValueError

    monkeypatch.setattr(Fee, "create", create_and_fail)
    mark_pending(loan, Loan.needs_fee)
    assert drain() == {"released": 1}
    assert Fee.select().count() == 0
    assert_pending(loan, Loan.needs_fee, error="ValueError")


@pytest.mark.parametrize("ending", ["close", "with", "rollback", "commit", "open"])
def test_a_handler_may_use_its_connection_as_it_likes(loan, monkeypatch, ending):
    def send(text: str) -> None:
        Letter.create(key=text)
        if ending == "with":
            with database:
                Letter.create(key="within")
        elif ending == "open":
            database.session_start()
            Letter.create(key="left open")
        else:
            getattr(database, ending)()

    monkeypatch.setattr(post, "send", send)
    mark_pending(loan, Loan.needs_reminder)
    ended = "released" if ending == "open" else "finished"
    assert drain() == {ended: 1}
    kept = {letter.key for letter in Letter.select()}
    assert kept == {"remember Emma"} | ({"within"} if ending == "with" else set())
    assert database.transaction_depth() == 1


def test_an_after_commit_callback_of_a_handler_runs(loan, monkeypatch):
    told: list[str] = []

    def send(text: str) -> None:
        with database.atomic():
            database.after_commit(lambda: told.append(text))
            assert told == []

    monkeypatch.setattr(post, "send", send)
    database.after_commit(lambda: told.append("the test's own"))
    mark_pending(loan, Loan.needs_reminder)
    assert drain() == {"finished": 1}
    assert told == ["remember Emma"]


def test_the_marks_of_a_block_are_known(pending_marks):
    ann = Member.create(name="Ann", needs_greeting=True)
    with marks() as made:
        Member.insert_many([{"name": "Ben"}, {"name": "Cy"}]).execute()
        mark_pending(Member.select().where(Member.name != "Ann"), "needs_greeting")
        ann.greeting = "hello"
        ann.save()
    others = [m.id for m in Member.select().where(Member.id != ann.id)]
    assert made == [("member.needs_greeting", key) for key in sorted(others)]
    assert pending_marks == [("member.needs_greeting", ann.id), *made]


def test_no_bell_rings_before_the_commit_and_none_reaches_redis(loan, pending_kicks):
    mark_pending(loan, Loan.needs_reminder)
    assert pending_kicks == []
    for crash in crashing():
        with crash, kicks() as rung:
            mark_pending(loan, Loan.needs_reminder)
            assert rung == ["loan.needs_reminder"]
            flush()
            assert rung == []
            assert drain() == {"finished": 1}


def test_failures_of_assertions_tell_how_the_row_stands(loan, monkeypatch):
    with pytest.raises(
        AssertionError,
        match=r"^not pending: .*loan\.needs_fee key=\d+ is"
        r" idle: it is not marked, or was handled$",
    ):
        assert_pending(loan, Loan.needs_fee)
    mark_pending(loan, Loan.needs_reminder, delay=3 * DAY)
    with pytest.raises(
        AssertionError,
        match=r"^not idle: .* is scheduled, marked \d"
        r".* ago, due in (3 d|2 d 23 h), attempts: 0$",
    ):
        assert_idle(loan, "needs_reminder")
    monkeypatch.setattr(post, "send", lambda text: 1 / 0)
    due_in(3 * DAY)
    drain()
    with pytest.raises(
        AssertionError,
        match=r"^not parked: .* is retrying, .* due in \d"
        r".*, attempts: 1, error: ZeroDivisionError: .*test_lending\.py",
    ):
        assert_parked(loan, Loan.needs_reminder)
    with pytest.raises(
        AssertionError, match=r"not pending after 2 attempts: .*: 1, error"
    ):
        assert_pending(loan, Loan.needs_reminder, attempts=2)
    with pytest.raises(AssertionError, match="not pending with the error 'closed': "):
        assert_pending(loan, Loan.needs_reminder, error="closed")
    loan.delete_instance()
    with pytest.raises(AssertionError, match="is not in the database"):
        assert_pending(loan, Loan.needs_reminder)
    with pytest.raises(NotAFlag):
        assert_pending(loan, Shelf.needs_dusting)


def test_work_that_nobody_does_is_told():
    Shelf.create(needs_dusting=True)
    drained = drain()
    assert (drained, drained.unhandled) == ({}, ["shelf.needs_dusting"])
    with pytest.raises(LookupError, match=r"shelf\.needs_dusting: no handler here"):
        drain(Shelf.needs_dusting)


def test_a_row_that_is_always_due_ends_the_test(loan, monkeypatch):
    monkeypatch.setattr(post, "send", lambda text: mark_pending(loan, "needs_reminder"))
    mark_pending(loan, Loan.needs_reminder)
    with pytest.raises(AssertionError, match="due again after each of 10 runs"):
        drain()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, pytest.fail.Exception])
def test_an_interrupt_is_no_failure_of_a_row(loan, monkeypatch, interrupt):
    def send(text: str) -> None:
        raise interrupt("now")

    monkeypatch.setattr(post, "send", send)
    mark_pending(loan, Loan.needs_reminder)
    with pytest.raises(interrupt):
        drain()
    assert_pending(loan, Loan.needs_reminder)


STEPS_OF_A_RECEIPT = [
    "after the claim, before the handler",
    "before INSERT INTO letter",
    "after INSERT INTO letter",
    "before send_once()",
    "after send_once()",
    "after the handler, before the finish",
    "after the finish",
]


def test_an_idempotent_handler_stands_every_crash(loan, sent):
    steps = []
    for crash in crashing(around=["lending.post.send_once"]):
        with crash:
            sent.clear()
            mark_pending(loan, Loan.needs_receipt)
            assert drain() == {"finished": 1}
            assert_idle(loan, Loan.needs_receipt)
            assert len(sent) == Letter.select().count() == 1
        steps.append(crash.step)
    plain = [step.translate({ord(c): None for c in '"`'}) for step in steps]
    found = [step.partition(" (")[0] for step in plain]
    assert found == ["nowhere", *STEPS_OF_A_RECEIPT]


def test_a_handler_that_is_not_idempotent_is_found_out(loan, sent, monkeypatch):
    monkeypatch.setattr(post, "send_once", post.send)

    def scenario():
        for crash in crashing():
            with crash:
                sent.clear()
                mark_pending(loan, Loan.needs_receipt)
                drain()
                assert len(sent) == 1

    with pytest.raises(AssertionError) as caught:
        scenario()
    (note,) = caught.value.__notes__
    expected = "a worker dies after the handler, before the finish"
    assert note == f"In this run of the test {expected}."


def test_an_atomic_handler_writes_once_whenever_it_dies(loan):
    deaths = 0
    for crash in crashing(around=["lending.tables.Fee.create"]):
        with crash:
            mark_pending(loan, Loan.needs_fee)
            assert drain(Loan.needs_fee) == {"finished": 1}
            assert Fee.select().count() == 1
            assert_pending(loan, Loan.needs_receipt)
            assert database.transaction_depth() == 0  # as the worker sees it
        deaths += 1
    assert deaths > 4
    assert Fee.select().count() == 0
    assert database.transaction_depth() == 1


def test_batches_and_async_handlers_stand_crashes_too(sent):
    for crash in crashing(around=["lending.post.send_soon"]):
        with crash:
            ann = Member.create(name="Ann", needs_greeting=True)
            books = [Book.create(title="Emma", needs_indexing=True) for _ in range(3)]
            drain()
            assert_idle(ann, Member.needs_greeting)
            for book in books:
                assert_idle(book, Book.needs_indexing)
        assert crash.steps


def test_a_scenario_that_handles_nothing_proves_nothing(loan):
    crashes = crashing()
    with next(crashes):
        assert drain() == {}
    with pytest.raises(AssertionError, match="no step was reached"):
        next(crashes)


def test_a_loop_without_its_block_is_told_so(loan):
    crashes = crashing()
    next(crashes)
    with pytest.raises(RuntimeError, match="write `with crash:`"):
        next(crashes)
