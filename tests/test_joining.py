"""An application's own broker: the kick and the sweep join it, and all else stays."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator

import dramatiq
import pika
import pytest
from bells import NAMESPACE
from domain import Order
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import AgeLimit
from house import ROOT, House
from looking import IDLE, state
from postbox import free_port
from python import run_python
from redis.sentinel import Sentinel
from waiting import wait_for

from models import DefinitionError
from models.connection import connected
from worker import broker as own_broker
from worker import handles, kick, sweep, use_broker
from worker.brokers import bells
from worker.choosing import BELLS
from worker.hands import stopping
from worker.redis_broker import Expires

WORKER = ("dramatiq", "store.jobs", "--processes", "1", "--threads", "2")
MARK = "from store.jobs import *; import sys; marked(int(sys.argv[1]))"
SEND = "from store.jobs import resize; resize.send('cat')"


@pytest.fixture
def joined() -> Iterator[None]:
    """Whatever broker the test joins, the next one has ours again."""
    yield
    use_broker(own_broker)
    stopping.clear()


@pytest.fixture(params=["redis", "rabbitmq"])
def broker_url(request: pytest.FixtureRequest) -> str:
    if request.param == "redis":
        return os.environ["REDIS_URL"]
    url: str = request.getfixturevalue("rabbitmq_url")
    return url


@pytest.fixture
def house(tmp_path, broker_url, redis_client) -> Iterator[House]:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with House(
        tmp_path,
        DATABASE_URL=url,
        STORE_DATABASE=url,
        STORE_BROKER=broker_url,
        STORE_NAME=NAMESPACE,
        REDIS_URL=f"redis://127.0.0.1:{free_port()}",  # ours is not needed
        REDIS_NAMESPACE=NAMESPACE,
        SWEEP_SECONDS="3600",
        PENDING_EXAMPLE="0",
        PENDING_MODULES="store.jobs",
        PYTHONPATH=str(ROOT / "tests"),
    ) as house:
        create = "from store.jobs import Parcel; Parcel.create_table()"
        assert house.run("python", "-c", create).returncode == 0
        assert house.run("pending", "migrate").stdout == "applied 0002_operations\n"
        yield house
    if broker_url.startswith("amqp"):
        forget(broker_url)


def forget(url: str) -> None:
    """Delete what the application has in RabbitMQ."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        for end in ("pictures", "pictures.DQ", "pictures.XQ", *KINDS):
            channel.queue_delete(f"{NAMESPACE}.{end}")


KINDS = ("pending.sweep", "pending.kick.parcel.needs_label")


def labelled(house: House) -> int:
    with connected(house.database):
        query = (
            "SELECT count(*) FROM parcel WHERE label IS NOT NULL AND NOT needs_label"
        )
        return int(house.database.execute_sql(query).fetchone()[0])


def test_the_kick_reaches_workers_of_the_applications_own_broker(house):
    """The watch looks once as they start, and then not for an hour."""
    house.start(*WORKER, ready="ready for action")
    for count in (1, 2, 3):
        assert house.run("python", "-c", MARK, "1").returncode == 0
        wait_for(lambda count=count: labelled(house) == count)
    house.run("python", "-c", SEND)
    wait_for(lambda: "resized cat" in house.log(*WORKER))
    assert "counted resize cat" in house.log(*WORKER)
    assert "counted kick parcel.needs_label" in house.log(*WORKER)


def test_rows_are_found_by_the_watch_in_the_applications_own_workers(house):
    assert house.run("python", "-c", MARK, "5").returncode == 0
    house.environment["SWEEP_SECONDS"] = "0.1"
    unheard = f"redis://127.0.0.1:{free_port()}"
    house.start(*WORKER, ready="ready for action")
    wait_for(lambda: labelled(house) == 5)
    house.environment["STORE_BROKER"] = unheard  # of who marks
    assert house.run("python", "-c", MARK, "5").returncode == 0
    wait_for(lambda: labelled(house) == 10)


def test_the_clock_of_the_applications_own_broker_rings(house):
    """One tick is sent as the clock starts, on a spec of each minute."""
    house.start(*WORKER, ready="ready for action")
    house.start("periodiq", "store.jobs")
    wait_for(lambda: "swept flags=1" in house.log(*WORKER), seconds=120)


def test_status_and_doctor_work_on_the_applications_own(house):
    house.start(*WORKER, ready="ready for action")
    wait_for(lambda: "1 workers" in house.run("pending", "status").stdout)
    report = house.run("pending", "doctor")
    assert report.returncode == 0, report.stdout
    assert "Broker" in report.stdout


def test_our_own_workers_say_that_the_bells_hang_elsewhere(house):
    command = ("dramatiq", "worker", "store.jobs", "--processes", "1")
    result = house.run(*command)
    assert result.returncode == 1
    (line,) = [one for one in result.stderr.splitlines() if "the bells hang" in one]
    assert "start `dramatiq` with the module of your broker, and without" in line


def test_importing_worker_leaves_the_applications_broker_the_default():
    code = """
import dramatiq
from dramatiq.brokers.stub import StubBroker
theirs = StubBroker()
dramatiq.set_broker(theirs)
import worker
print(dramatiq.get_broker() is theirs, worker.broker is theirs, sorted(theirs.actors))
"""
    assert run_python(code).stdout == "True False []\n"


def test_a_stub_broker_hears_the_kick_and_the_sweep(database, handlers, joined):
    broker = StubBroker()
    use_broker(broker)
    handles(Order.needs_receipt)(lambda row: None)
    for _ in range(2):  # a test's worker is one of many in its process
        worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=50)
        worker.start()
        try:
            order = Order.create(needs_receipt=True)
            broker.join(BELLS, timeout=60_000)
            worker.join()
            assert state(Order.needs_receipt, order) == IDLE
            sweep.send()
            broker.join(BELLS, timeout=60_000)
        finally:
            worker.stop()
    assert broker.dead_letters == []


def test_an_old_sweep_is_dropped_unheard_and_not_dead_lettered(joined, caplog):
    caplog.set_level(logging.INFO, logger="pending")
    broker = StubBroker()
    use_broker(broker)
    broker.enqueue(sweep.message().copy(message_timestamp=1))
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=50)
    worker.start()
    try:
        broker.join(BELLS, timeout=60_000)
    finally:
        worker.stop()
    assert broker.dead_letters == []
    assert "swept" not in caplog.text


def test_joining_twice_is_joining_once(joined):
    broker = StubBroker()
    use_broker(broker)
    before = list(broker.middleware)
    use_broker(broker)
    assert broker.middleware == before
    assert bells.broker is broker


def test_old_sweeps_are_dropped_before_an_age_limit_sees_them(joined, redis_client):
    broker = RedisBroker(client=redis_client, namespace=NAMESPACE)
    use_broker(broker)
    kinds = [type(one) for one in broker.middleware]
    assert kinds.index(Expires) < kinds.index(AgeLimit)
    assert {kick.actor_name, sweep.actor_name} <= broker.actors.keys()


def test_an_actor_of_the_same_name_is_an_error_that_says_so(joined):
    broker = StubBroker()
    dramatiq.actor(lambda: None, broker=broker, actor_name="sweep")
    with pytest.raises(
        DefinitionError, match="your broker has an actor called 'sweep'"
    ):
        use_broker(broker)
    assert bells.broker is own_broker


@pytest.mark.parametrize(
    "broker", [dramatiq.Broker(middleware=[]), RedisBroker, "redis://", None]
)
def test_a_broker_of_an_unknown_kind_is_refused(joined, broker):
    with pytest.raises(DefinitionError, match="a RedisBroker, a RabbitmqBroker or a"):
        use_broker(broker)


def test_a_commit_does_not_wait_for_the_applications_redis_that_hangs(joined, caplog):
    """dramatiq's own broker would try for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as hung:
        use_broker(RedisBroker(host="127.0.0.1", port=hung.getsockname()[1]))
        assert not any(bells.ring(kick.message("order.needs_x")) for _ in range(1_000))
        bells.place.client.close()
        bells.place._hang.registered_client.close()
    (line,) = {r.message for r in caplog.records if r.name == "pending"}
    assert line.startswith("bells dropped for 0.25 s")


def test_a_redis_behind_sentinels_is_refused(joined):
    client = Sentinel([("127.0.0.1", free_port())]).master_for("main")
    with pytest.raises(DefinitionError, match="not behind a SentinelConnectionPool"):
        use_broker(RedisBroker(client=client))
