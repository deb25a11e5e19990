"""Marks from an event loop, on every database: nothing blocks it, each commit kicks.

That the loop goes on is not measured but needed: what hangs, hangs until the loop
itself lets it go.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis
from bells import hanging
from listeners import silent_server
from looking import is_freshly_marked, state
from peewee import CharField
from playhouse import db_url, pwasyncio
from proxy import proxied
from pymysql.constants import CLIENT
from waiting import wait_for
from work import drained

from models import (
    AwaitableDatabase,
    BadSetting,
    DefinitionError,
    OpenTransaction,
    PendingFlag,
    PendingModel,
)
from models.committing import announce
from models.connection import connected, database_from_url
from models.connection import database as default_database
from worker import (
    mark_pending_async,
    unmark_async,
)
from worker.breaker import Breaker
from worker.brokers import broker
from worker.events import Event
from worker.flowing import event_loop
from worker.processes import reach
from worker.redis_broker import _HANG

KINDS = ("sqlite", "postgresql", "mysql")

SECONDS = 60  # none of the tests comes near to it


class Letter(pwasyncio.AsyncModelMixin, PendingModel):
    """A row that coroutines write."""

    text = CharField(default="")
    needs_stamp = PendingFlag()
    needs_copy = PendingFlag()


STAMP = Letter.needs_stamp


def awaited(url):
    """The database of `url` for an event loop, as docs/async.md has it."""
    if url.startswith("sqlite"):
        wal = {"journal_mode": "wal", "foreign_keys": 1}
        return pwasyncio.AsyncSqliteDatabase(
            url.removeprefix("sqlite:///"), pragmas=wal, lock_type="IMMEDIATE"
        )
    if url.startswith("postgresql"):
        return pwasyncio.AsyncPostgresqlDatabase(url)
    options = db_url.parse(url.replace("mysql", "mysql+pool", 1))
    return pwasyncio.AsyncMySQLDatabase(client_flag=CLIENT.FOUND_ROWS, **options)


def only(*kinds):
    """Run a test on these kinds of databases alone: those with a server."""
    return pytest.mark.parametrize("url", kinds, indirect=True)


@pytest.fixture(scope="module", params=KINDS)
def url(request, server_url):
    return server_url(request.param)


@contextmanager
def pair(url):
    """An awaitable database in which the table is empty, bound to the model."""
    plain = database_from_url(url)
    both = AwaitableDatabase(plain, awaited(url))
    with Letter.bind_ctx(both), connected(plain):
        Letter.create_table()
        Letter.delete().execute()
        yield both
    getattr(plain, "close_idle", lambda: None)()


@pytest.fixture
def both(url):
    """A database of each kind in turn, for threads and loops."""
    with pair(url) as database:
        yield database


@pytest.fixture
def plain(both):
    """The same for threads alone."""
    with Letter.bind_ctx(both.plain):
        yield both.plain


@pytest.fixture(params=["awaitable", "plain"])
def either(request, both):
    with either_of(both, request.param) as database:
        yield database


@contextmanager
def either_of(both, which):
    chosen = both if which == "awaitable" else both.plain
    with Letter.bind_ctx(chosen):
        yield chosen


def run(coroutine, database):
    """Run it in a loop of its own, in which the database is closed at the end."""

    async def all_of_it():
        try:
            return await asyncio.wait_for(coroutine, SECONDS)
        finally:
            if isinstance(database, AwaitableDatabase):
                await database.close_pool()

    return asyncio.run(all_of_it())


def labels(*flags):
    return [flag.label for flag in flags]


def test_a_row_that_is_saved_in_a_loop_is_marked_and_rings_after_the_commit(
    both, bells
):
    async def sign():
        async with both.atomic():
            row = await Letter.acreate(needs_stamp=True)
            assert bells == []
        assert bells == labels(STAMP)
        row.needs_copy = True
        await row.asave()
        return row

    row = run(sign(), both)
    assert bells == labels(STAMP, Letter.needs_copy)
    assert is_freshly_marked(STAMP, row)
    assert is_freshly_marked(Letter.needs_copy, row)


def test_a_query_s_update_in_a_loop_marks_and_rings(both, bells):
    async def sign():
        row = await Letter.acreate()
        await Letter.update(needs_stamp=True).where(Letter.id == row.id).aexecute()
        await both.aexecute(Letter.insert(text="new", needs_stamp=True))

    run(sign(), both)
    assert bells == labels(STAMP, STAMP)


def test_an_awaited_mark_does_what_a_mark_does(either, bells):
    async def mark():
        new = Letter(text="new")
        assert await mark_pending_async(new, STAMP) == 1
        assert await mark_pending_async(new, "needs_stamp") == 1
        assert await mark_pending_async(Letter.select(), STAMP) == 1
        later = timedelta(hours=1)
        assert await mark_pending_async(new, Letter.needs_copy, delay=later) == 1
        assert await unmark_async(new, Letter.needs_copy) == 1
        assert await unmark_async(Letter.select(), Letter.needs_copy) == 0
        return new

    row = run(mark(), either)
    assert is_freshly_marked(STAMP, row)
    assert not state(Letter.needs_copy, row).flag
    assert row.needs_stamp
    assert bells == labels(STAMP, STAMP, STAMP, Letter.needs_copy)


def test_an_awaited_mark_is_part_of_the_task_s_transaction(both, bells):
    async def fail():
        async with both.atomic():
            await mark_pending_async(Letter(), STAMP)
            raise LookupError

    with pytest.raises(LookupError):
        run(fail(), both)
    assert bells == []
    assert Letter.select().count() == 0


def test_each_task_s_transaction_rings_for_itself(both, bells):
    """They share a thread: a bell that waits for one's commit is not the other's."""

    async def overlap():
        marked, end = asyncio.Event(), asyncio.Event()

        async def mark_for_long():
            async with both.atomic():
                await mark_pending_async(Letter(), STAMP)
                marked.set()
                await end.wait()

        task = asyncio.create_task(mark_for_long())
        await marked.wait()
        assert bells == []
        # What a mark does: on SQLite nobody else can write meanwhile.
        announce(STAMP, both)
        assert bells == labels(STAMP)
        end.set()
        await task

    run(overlap(), both)
    assert bells == labels(STAMP, STAMP)


def test_a_plain_transaction_in_the_loop_s_thread_is_an_error(plain):
    """The mark would be made by another thread, on another connection."""

    async def mix(row):
        with plain.atomic():
            await mark_pending_async(row, STAMP)

    row = Letter.create()
    with pytest.raises(OpenTransaction, match="no part of it"):
        run(mix(row), plain)
    assert not state(STAMP, row).flag


def test_threads_handle_what_a_loop_has_marked(both):
    """A worker's: they speak to the same rows through the plain database."""
    row = run(Letter.acreate(needs_stamp=True), both)

    def handler(letter):
        letter.text = f"stamped, one of {Letter.select().count()}"

    assert drained(STAMP, handler) == {Event.FINISHED: 1}
    assert Letter.get_by_id(row.id).text == "stamped, one of 1"


def test_async_handlers_await_the_same_database(both):
    async def handler(letter):
        copy = await Letter.acreate(text="copy", needs_copy=True)
        letter.text = str(copy.id)
        await both.aclose()

    row = Letter.create(needs_stamp=True)
    assert drained(STAMP, handler) == {Event.FINISHED: 1}
    copy = Letter.get(Letter.text == "copy")
    assert Letter.get_by_id(row.id).text == str(copy.id)
    assert is_freshly_marked(Letter.needs_copy, copy)
    closing = both.awaited.close_pool()
    asyncio.run_coroutine_threadsafe(closing, event_loop()).result(SECONDS)


def test_a_flag_is_called_the_same_wherever_it_is_asked_for(both):
    async def label():
        return STAMP.label

    assert run(label(), both) == STAMP.label
    name = Path(both.plain.database).stem
    assert STAMP.label == f"{name}/letter.needs_stamp"


def test_beside_the_default_database_there_is_nothing_before_the_table(tmp_path):
    pair = AwaitableDatabase(default_database, awaited(f"sqlite:///{tmp_path / 'x'}"))
    with Letter.bind_ctx(pair):
        assert STAMP.label == "letter.needs_stamp"


def test_an_async_database_alone_cannot_have_handlers(url):
    with Letter.bind_ctx(awaited(url)):
        with pytest.raises(DefinitionError, match=r"AwaitableDatabase\(plain, awaited"):
            drained(STAMP, print)
        with pytest.raises(BadSetting, match="works in an event loop alone"):
            reach(STAMP.database)


def test_an_awaitable_database_is_one_of_each(plain, url):
    for wrong in ((plain, plain), (awaited(url), plain)):
        with pytest.raises(TypeError, match="needed are a plain peewee database"):
            AwaitableDatabase(*wrong)


def test_a_query_that_is_not_awaited_raises_instead_of_blocking(both):
    async def forget():
        return Letter.select().count()

    with pytest.raises(pwasyncio.MissingGreenletBridge):
        run(forget(), both)


async def goes_on():
    """Come back when the loop has turned a hundred times."""
    for _ in range(100):
        await asyncio.sleep(0)


async def until(fact):
    """Come back when `fact()` is true."""
    while not fact():
        await asyncio.sleep(0.01)


def test_the_loop_goes_on_while_a_row_is_locked(either):
    """Another connection lets the row go when the loop says so."""
    row = Letter.create()
    locked, end = threading.Event(), threading.Event()
    plain = getattr(either, "plain", either)

    def hold():
        with connected(plain), plain.atomic():
            Letter.update(text="held").execute()
            locked.set()
            assert end.wait(SECONDS)

    async def mark():
        await asyncio.to_thread(locked.wait)
        marking = asyncio.create_task(mark_pending_async(row, STAMP))
        await goes_on()
        assert not marking.done()
        end.set()
        return await marking

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert run(mark(), either) == 1
    finally:
        end.set()
        thread.join()


@only("postgresql", "mysql")
@pytest.mark.parametrize("which", ["awaitable", "plain"])
def test_the_loop_goes_on_while_the_database_hangs(url, which):
    """The proxy before it lets it go on when the loop says so."""

    async def mark(proxy):
        row = Letter()
        await mark_pending_async(row, STAMP)
        proxy.hang()
        marking = asyncio.create_task(mark_pending_async(row, Letter.needs_copy))
        await until(proxy.held.is_set)
        await goes_on()
        assert not marking.done()
        proxy.flow()
        assert await marking == 1
        return row

    with proxied(url) as proxy, pair(proxy.url) as both:
        with either_of(both, which) as database:
            row = run(mark(proxy), database)
        assert is_freshly_marked(Letter.needs_copy, row)


@pytest.fixture
def silent_redis(monkeypatch):
    """The bells go to a server that never answers, and is waited for."""
    refused = []
    monkeypatch.setattr(broker, "_drop", refused.append)
    monkeypatch.setattr(broker, "breaker", Breaker())
    with silent_server() as server:
        client = redis.Redis(port=server.port, socket_timeout=SECONDS)
        monkeypatch.setattr(broker, "_hang", client.register_script(_HANG))
        yield SimpleNamespace(server=server, refused=refused)
    wait_for(lambda: refused)
    client.close()


def test_no_commit_of_a_loop_waits_for_redis(both, silent_redis):
    """Neither that of a mark that is awaited, nor that of a plain `save()`."""

    async def mark():
        row = await Letter.acreate(needs_stamp=True)
        await mark_pending_async(row, STAMP)
        with Letter.bind_ctx(both.plain):
            Letter.create(needs_copy=True)
        await until(lambda: silent_redis.server.connections)
        await goes_on()

    run(mark(), both)
    assert silent_redis.refused == []


def test_what_a_loop_has_committed_rings_the_bell(either, redis_client, monkeypatch):
    monkeypatch.setattr(broker, "_hang", redis_client.register_script(_HANG))
    monkeypatch.setattr(broker, "breaker", Breaker())
    run(mark_pending_async(Letter(), STAMP), either)
    wait_for(lambda: hanging(redis_client) == [("kick", STAMP.label)])
