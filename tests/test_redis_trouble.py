"""Ringing when Redis is in trouble: never an error, never a wait, for the caller."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from pathlib import Path

import pytest
import redis
from bells import bell, bell_broker, declare, hanging
from listeners import silent_server
from postbox import free_port
from servers import embedded_redis
from waiting import wait_for

from worker import breaker

KICK = bell("kick", "user.needs_x")


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="pending-") as name:
        yield Path(name)


@pytest.fixture
def own_redis(folder):
    """A client of a Redis that the test may spoil."""
    server = embedded_redis(folder)
    client = redis.Redis.from_url(server.url)
    yield client
    client.close()
    server.stop()


def url_of(client):
    return f"unix://{client.connection_pool.connection_kwargs['path']}"


@pytest.fixture
def trusting(monkeypatch):
    """Redis is asked again at once after it failed."""
    monkeypatch.setattr(breaker, "_FIRST_SECONDS", 0)


@pytest.fixture
def wary(monkeypatch):
    """Redis is not asked again while the test lasts."""
    monkeypatch.setattr(breaker, "_FIRST_SECONDS", 3_600)
    monkeypatch.setattr(breaker, "_LONGEST_SECONDS", 3_600)


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:{port}", "unix:///nowhere/redis.sock"]
)
def test_where_nobody_listens_the_bell_is_dropped(url):
    with bell_broker(url.format(port=free_port())) as broker:
        assert [broker.ring(KICK), broker.ring(KICK)] == [False, False]
        assert broker.dropped == 2


def test_a_server_that_never_answers_is_asked_once(wary):
    with silent_server() as server:
        url = f"redis://127.0.0.1:{server.port}"
        with bell_broker(url, waits=0.03) as broker:
            assert not any(broker.ring(KICK) for _ in range(100))
            assert broker.dropped == 100
            wait_for(lambda: server.connections)
    assert server.connections == 1


def test_a_server_that_never_answers_is_asked_again_after_a_while(trusting):
    with silent_server() as server:
        url = f"redis://127.0.0.1:{server.port}"
        with bell_broker(url, waits=0.03) as broker:
            assert not any(broker.ring(KICK) for _ in range(3))
            wait_for(lambda: server.connections == 3)


def test_a_redis_that_stands_still_drops_the_bell_and_gets_the_next(
    own_redis, trusting
):
    pid = own_redis.info("server")["process_id"]
    with bell_broker(url_of(own_redis), waits=0.1) as broker:
        wait_for(lambda: broker.ring(KICK))
        os.kill(pid, signal.SIGSTOP)
        try:
            assert not broker.ring(KICK)
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_for(lambda: broker.ring(KICK))
    assert hanging(own_redis) == [("kick", "user.needs_x")]


@pytest.mark.parametrize(
    ("setting", "bad", "good"),
    [("maxmemory", "1", "0"), ("min-replicas-to-write", "1", "0")],
    ids=["out of memory", "no replicas"],
)
def test_a_redis_that_takes_no_writes_drops_the_bell(
    own_redis, trusting, setting, bad, good
):
    with bell_broker(url_of(own_redis)) as broker:
        own_redis.config_set(setting, bad)
        assert not broker.ring(KICK)
        own_redis.config_set(setting, good)
        assert broker.ring(KICK)
    assert hanging(own_redis) == [("kick", "user.needs_x")]


def test_a_read_only_redis_drops_the_bell(own_redis, trusting):
    with bell_broker(url_of(own_redis)) as broker:
        own_redis.replicaof("127.0.0.1", str(free_port()))
        assert not broker.ring(KICK)
        own_redis.replicaof("NO", "ONE")
        assert broker.ring(KICK)


def test_a_restarted_redis_gets_the_next_bell(folder, trusting):
    server = embedded_redis(folder)
    with bell_broker(server.url) as broker:
        assert broker.ring(KICK)
        server.stop()
        assert not broker.ring(KICK)
        server = embedded_redis(folder)
        try:
            assert broker.ring(KICK)
        finally:
            server.stop()


def test_a_redis_that_forgot_its_scripts_gets_the_bell(own_redis):
    with bell_broker(url_of(own_redis)) as broker:
        assert broker.ring(KICK)
        own_redis.flushall()
        own_redis.script_flush()
        assert broker.ring(KICK)
    assert hanging(own_redis) == [("kick", "user.needs_x")]


def test_something_else_under_the_queue_s_name_drops_the_bell(own_redis, wary):
    with bell_broker(url_of(own_redis)) as broker:
        own_redis.set(f"{broker.namespace}:pending", "no list")
        assert not broker.ring(KICK)


def test_a_dropped_bell_is_one_warning_not_one_each(wary, caplog):
    with bell_broker(f"redis://127.0.0.1:{free_port()}") as broker:
        for _ in range(10):
            broker.ring(KICK)
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert line.message.startswith("bells dropped for 3600 s, each worker looks")


def test_sending_a_bell_never_raises(wary):
    """As the clock does, which would end."""
    with bell_broker(f"redis://127.0.0.1:{free_port()}") as broker:
        sweep = declare(broker, "sweep", lambda: None)
        sweep.send()
        sweep.send()
        assert broker.dropped == 2
