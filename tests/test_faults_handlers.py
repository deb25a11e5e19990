"""Handlers of every kind, amid hundreds of rows: killed, told to stop, stuck."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from datetime import timedelta
from types import SimpleNamespace

import peewee
import pytest
from domain import Order
from faulty import WORKER, child_of, is_idle, kill, shops
from looking import IDLE, state
from stock import Crate, Entry
from waiting import wait_for
from work import drained, orders

from models import NEVER
from worker.events import Event

FLAG = Order.needs_receipt
NAMES = [f"fine-{n}" for n in range(1500)]
HANDLERS = ("plain", "atomic", "batch", "atomic batch", "async")


@pytest.fixture
def open_shop(tmp_path, server_url):
    with shops(tmp_path, server_url) as open_shop:
        yield open_shop


def counted(shop, word):
    """How often the handlers noted `word`, by the rows' names."""
    return Counter(one.name for one in shop.notes() if one.word == word)


def crates(shop):
    """What is in the rows now, by their names."""
    flag = Crate.needs_packing
    columns = {"runs": Crate.runs, "flag": flag, **flag.companions}
    with shop.bound():
        query = Crate.select(Crate.name, *columns.values()).tuples()
        return {
            name: SimpleNamespace(**dict(zip(columns, values, strict=True)))
            for name, *values in query
        }


def pending(shop):
    return {name for name, row in crates(shop).items() if row.flag}


def effects(shop):
    """How often each row's effect is in the database."""
    with shop.bound():
        return Counter(entry.text for entry in Entry.select())


def until_the_middle(shop):
    wait_for(lambda: counted(shop, "end").total() > 80, what=shop.working()[-3000:])


@pytest.mark.parametrize(
    ("kind", "packing"),
    [
        *(("postgresql", packing) for packing in HANDLERS),
        ("sqlite", "atomic"),
        ("sqlite", "atomic batch"),
    ],
)
def test_a_handler_of_any_kind_killed_amid_many_rows_loses_none(
    open_shop, kind, packing
):
    shop = open_shop(kind, PACKING=packing)
    command = (*WORKER, "deeds", "--processes", "1", "--threads", "2")
    dying, _ = shop.start(*command), shop.start(*command)
    wait_for(lambda: shop.working().count("ready for action") == 2)
    names = NAMES[:500]
    shop.order(*names, model=Crate)
    until_the_middle(shop)
    kill(dying)
    assert pending(shop), "it was in the middle"
    wait_for(lambda: not pending(shop), what=shop.working()[-3000:])
    for row in crates(shop).values():
        assert row.runs == 1
        assert is_idle(row)
    done = effects(shop)
    assert set(done) == set(names)
    if "atomic" in packing:
        assert set(done.values()) == {1}


@pytest.mark.parametrize("packing", HANDLERS)
def test_a_handler_of_any_kind_told_to_stop_amid_many_rows_holds_none(
    open_shop, packing
):
    shop = open_shop("postgresql", PACKING=packing)
    worker = shop.work("--threads", "2")
    shop.order(*NAMES, model=Crate)  # dramatiq takes a second to hear of it
    until_the_middle(shop)
    worker.terminate()
    assert worker.wait(60) == 0
    left = pending(shop)
    assert left, "it was in the middle"
    for name, row in crates(shop).items():
        if name in left:
            assert (row.lease, row.until, row.error) == (None, 0, None)
            assert (row.runs, row.attempts, row.crashes) == (0, 0, 0)
        else:
            assert row.runs == 1
            assert is_idle(row)
    assert counted(shop, "begin") == Counter(set(NAMES) - left)
    assert effects(shop) == Counter(set(NAMES) - left)


def test_an_event_loop_that_is_blocked_loses_its_row_to_another_worker_and_is_reported(
    open_shop,
):
    shop = open_shop("postgresql", PACKING="async", TIME_LIMIT="0.3")
    os.mkfifo(shop.folder / "pipe")
    shop.work("--threads", "1")
    shop.order("stuck-1", model=Crate)
    blocked = shop.began("stuck-1")
    other = child_of(shop.work("--threads", "1"))
    assert other != blocked
    assert shop.began("stuck-1", times=2) == other
    shop.until_idle("stuck-1", model=Crate)
    wait_for(lambda: "stuck flag=crate.needs_packing" in shop.working())
    (shop.folder / "pipe").open("wb").close()
    wait_for(lambda: "lost flag=crate.needs_packing" in shop.working())
    assert "in wait_in_c" in shop.working()
    assert shop.look("stuck-1", Crate).runs == 1


def test_an_async_call_past_its_time_limit_has_failed_with_time_limit_exceeded(
    database,
):
    late, quick = orders(2)

    async def call(row):
        await asyncio.sleep(60 if row.id == late.id else 0)

    limit = timedelta(seconds=0.05)
    assert drained(FLAG, call, time_limit=limit) == {
        Event.FINISHED: 1,
        Event.RELEASED: 1,
    }
    after = state(FLAG, late)
    assert (after.flag, after.attempts, after.crashes, after.lease) == (
        True,
        1,
        0,
        None,
    )
    assert "TimeLimitExceeded" in after.error
    assert re.search(r"test_faults_handlers.py:\d+ in call\)$", after.error)
    assert state(FLAG, quick) == IDLE


@pytest.mark.parametrize("atomic", [False, True])
def test_a_row_that_fails_its_whole_batch_is_soon_alone_and_parked_alone(
    database, atomic
):
    with database.atomic():
        rows = orders(500)
    poison, beside = rows[250], []

    def call(batch):
        if poison in batch:
            beside.append(len(batch))
            raise ValueError("poison")

    ended = Counter()
    for _ in range(5):
        ended += drained(FLAG, call, batch=500, atomic=atomic, attempts=5)
        retried = peewee.ModelUpdate(Order, {FLAG.due: 1})
        retried.where(FLAG, FLAG.due < NEVER).execute()
    # Atomic ones are tried together with others first, and those that waited for that
    # for too long are claimed anew: the last batch of a claim is smaller.
    assert (min(beside), max(beside)) == (1, 500)
    assert any(1 < size <= 7 for size in beside)
    assert not any(62 < size < 500 for size in beside)
    assert atomic or sorted(beside, reverse=True) == beside
    assert ended[Event.FINISHED] == 499
    assert ended[Event.PARKED] == 1
    assert Order.select().where(FLAG).count() == 1
    after = state(FLAG, poison)
    assert (after.flag, after.due, after.attempts) == (True, NEVER, 5)
    assert "poison" in after.error
