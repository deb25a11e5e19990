"""The servers and the databases of the tests.

Named in the environment (`POSTGRES_URL`, `MYSQL_URL`, `REDIS_URL`) or else started
from packages; only MariaDB and RabbitMQ have none, and what needs them is skipped where
`MYSQL_URL` and `RABBITMQ_URL` name none. In CI nothing may be skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

_SERVERS = ("POSTGRES_URL", "MYSQL_URL", "REDIS_URL", "RABBITMQ_URL")
# A process of xdist is told by the one that started it: the names are gone by then.
NAMED = json.loads(os.environ.pop("TEST_SERVERS", "{}")) or {
    name: os.environ.get(name) for name in _SERVERS
}
SCRATCH = Path(tempfile.mkdtemp(prefix="pending-"))
_SETTINGS = ("_URL", "_SECONDS", "_CRON", "_FORMAT", "PENDING_", "DASHBOARD_", "PORT")
for name in [n for n in os.environ if any(part in n for part in _SETTINGS)]:
    del os.environ[name]
os.environ["TEST_SERVERS"] = json.dumps(NAMED)
os.environ["DATABASE_URL"] = f"sqlite:///{SCRATCH / 'default.db'}"
os.environ["REDIS_URL"] = NAMED["REDIS_URL"] or f"unix://{SCRATCH / 'redis.sock'}"
os.environ["REDIS_NAMESPACE"] = f"test-{os.getpid()}"

import domain  # noqa: E402 (after the environment is what the tests want)
import peewee  # noqa: E402
import pytest  # noqa: E402
import redis  # noqa: E402
from bells import empty  # noqa: E402
from house import House  # noqa: E402
from playhouse.pool import PooledDatabase  # noqa: E402
from servers import (  # noqa: E402
    Server,
    create_database,
    drop_database,
    embedded_postgresql,
    embedded_redis,
)

import models  # noqa: E402
from models.committing import _listeners, on_mark  # noqa: E402
from models.connection import database_from_url  # noqa: E402
from models.migrating import migrate  # noqa: E402
from models.operations import TABLES  # noqa: E402
from worker import kicking, reporting  # noqa: E402
from worker.handlers import _handlers  # noqa: E402

KINDS = ("sqlite", "postgresql", "mysql")

collect_ignore = ["lending"]  # a project of its own; test_testing runs it

# Where the example was deleted, so are its users, whom these tests sign up.
_USERS = re.compile(r"import .*\bUser\b|\bsignup\b|\bSMTP_URL\b|\bmails\(\)")
WITHOUT_USERS = [
    path.name
    for path in sorted(Path(__file__).parent.glob("test_*.py"))
    if not models.example.is_wanted() and _USERS.search(path.read_text())
]
collect_ignore += WITHOUT_USERS

# Files that import one of these start processes, or search.
_LONG = {"subprocess", "House", "Shop", "shops", "pending", "RuleBasedStateMachine"}

reporting.enabled = False  # no thread that writes while a test looks

_started: list[Server] = []
_made: list[tuple[str, str]] = []  # databases on servers that outlive the tests


@pytest.fixture(autouse=True)
def no_bell_is_owed() -> Iterator[None]:
    """A bell of this test's last moment is not to be rung in the next one."""
    yield
    moments, kicking._moments = kicking._moments, kicking._Moments()
    with moments._changed:
        moments._owed.clear()


def pytest_configure() -> None:
    if not NAMED["REDIS_URL"]:
        _started.append(embedded_redis(SCRATCH))
    with models.database:
        migrate(models.database)


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """What takes long comes first, or else one file is left at the end, alone."""
    items.sort(key=lambda item: _LONG.isdisjoint(vars(item.module)))


def pytest_report_header() -> str:
    mysql = "named" if NAMED["MYSQL_URL"] else "none: what needs it is skipped"
    own = {True: "named", False: "started here"}
    return (
        f"servers: Redis {own[bool(NAMED['REDIS_URL'])]},"
        f" PostgreSQL {own[bool(NAMED['POSTGRES_URL'])]}, MYSQL_URL {mysql}"
        + "".join(
            f"\nwithout the example: {name} is left out" for name in WITHOUT_USERS
        )
    )


def pytest_unconfigure() -> None:
    for url, name in _made:
        drop_database(url, name)
    for server in _started:
        server.stop()
    shutil.rmtree(SCRATCH, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    """In CI a test that is skipped has failed."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def server_url() -> Callable[[str], str]:
    """Return the URL of an empty database of a kind, made anew at each call."""
    made: dict[str, str] = {}
    count = iter(range(10_000))

    def url(kind: str) -> str:
        name = f"pending_test_{os.getpid()}_{next(count)}"
        if kind == "sqlite":
            return f"sqlite:///{SCRATCH / name}.db"
        if kind not in made:
            made[kind] = _server(kind)
        return _new_database(made[kind], name)

    return url


def _server(kind: str) -> str:
    named = NAMED["POSTGRES_URL" if kind == "postgresql" else "MYSQL_URL"]
    if named:
        return named
    if kind == "mysql":
        pytest.skip("MYSQL_URL names no server")
    server = embedded_postgresql(SCRATCH)
    _started.append(server)
    return server.url


def _new_database(url: str, name: str) -> str:
    if url in NAMED.values():
        _made.append((url, name))
    return create_database(url, name)


@pytest.fixture(scope="session", params=KINDS)
def session_database(
    request: pytest.FixtureRequest, server_url: Callable[[str], str]
) -> Iterator[peewee.Database]:
    database = database_from_url(server_url(request.param))
    database.connect()
    with database.bind_ctx(domain.MODELS):
        database.create_tables(domain.MODELS)
    yield database
    database.close()
    if isinstance(database, PooledDatabase):
        database.close_idle()


@pytest.fixture
def database(session_database: peewee.Database) -> Iterator[peewee.Database]:
    """A database of each kind in turn, with `domain`'s models bound to it, empty."""
    session_database.connect(reuse_if_open=True)
    with session_database.bind_ctx(domain.MODELS):
        for model in reversed(domain.MODELS):
            model.delete().execute()
        yield session_database


@pytest.fixture
def operations(database: peewee.Database) -> Iterator[peewee.Database]:
    """The same database with the tables of operating, empty."""
    with database.bind_ctx(TABLES):
        database.create_tables(TABLES)
        for table in TABLES:
            table.delete().execute()
        yield database


@pytest.fixture
def bells() -> Iterator[list[str]]:
    """The labels of the flags whose marks the listeners were told of, in order."""
    heard: list[str] = []

    @on_mark
    def listener(flag: models.PendingFlag) -> None:
        heard.append(flag.label)

    yield heard
    _listeners.remove(listener)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Let the test register handlers that are gone afterwards."""
    before = dict(_handlers)
    yield
    _handlers.clear()
    _handlers.update(before)


@pytest.fixture
def rabbitmq_url() -> str:
    """The URL of a RabbitMQ."""
    return NAMED["RABBITMQ_URL"] or pytest.skip("RABBITMQ_URL names no server")


@pytest.fixture
def redis_client() -> Iterator[redis.Redis]:
    """A client of the tests' Redis, in which this run's keys are removed first."""
    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    empty(client)
    yield client
    client.close()


@pytest.fixture
def make_house(
    tmp_path: Path, server_url: Callable[[str], str]
) -> Iterator[Callable[..., House]]:
    """Return a function that makes a migrated house; all are closed afterwards."""
    houses: list[House] = []

    def make(kind: str = "postgresql", **environment: str) -> House:
        settings = {
            "DATABASE_URL": server_url(kind),
            "REDIS_URL": os.environ["REDIS_URL"],
            "REDIS_NAMESPACE": f"{os.environ['REDIS_NAMESPACE']}-{uuid.uuid4()}",
            "SWEEP_SECONDS": "1",
            **environment,
        }
        house = House(tmp_path, **settings)
        houses.append(house)
        migrated = house.run("pending", "migrate")
        assert migrated.returncode == 0, migrated.stderr
        return house

    yield make
    for house in houses:
        house.__exit__()
