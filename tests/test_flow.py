"""The whole sentence, with real processes: mark, kick, claim, handle, finish."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from house import House, end
from postbox import Mailbox, free_port, smtp_server
from servers import embedded_redis
from waiting import wait_for

from models import User

KINDS = ("sqlite", "postgresql", "mysql")
NEVER_BY_ITSELF = {"SWEEP_SECONDS": "3600"}

MakeHouse = Callable[..., House]


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def smtp_url(mailbox: Mailbox) -> Iterator[str]:
    with smtp_server(mailbox, free_port()) as url:
        yield url


def addresses(count: int) -> list[str]:
    return [f"user{number}@example.com" for number in range(count)]


def sign_up(house: House, emails: list[str]) -> None:
    done = house.run("pending", "signup", "-", text="\n".join(emails))
    assert done.returncode == 0, done.stderr
    assert f"{len(emails)} signed up" in done.stdout


def wait_until_done(house: House, *, seconds: float = 120) -> None:
    wait_for(
        lambda: pending(house) == 0,
        seconds=seconds,
        what=f"no flag left: {house.log('dramatiq', 'worker')[-3000:]}",
    )


def assert_one_each(mailbox: Mailbox, emails: list[str]) -> None:
    assert dict(mailbox.per_address()) == dict.fromkeys(emails, 1)


def pending(house: House) -> int:
    """How many users are to be welcomed still."""
    with house.database.bind_ctx([User]), house.database.connection_context():
        return User.select().where(User.needs_welcome_email).count()


def assert_nothing_piled_up(house: House) -> None:
    """No list, hash or dead-letter set of messages is left; brokers' ids may be."""
    wait_for(lambda: not _messages(house), what=f"empty queues: {house.keys()}")


def _messages(house: House) -> dict[str, int]:
    return {k: n for k, n in house.keys().items() if not k.endswith("__heartbeats__")}


@contextmanager
def every_second(action: Callable[[], object]) -> Iterator[None]:
    """Do something again and again, in a thread, while the block runs."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(1):
            action()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize(
    ("kind", "count"), [("postgresql", 2000), ("sqlite", 300), ("mysql", 300)]
)
def test_every_address_gets_exactly_one_mail(
    make_house: MakeHouse, mailbox: Mailbox, smtp_url: str, kind: str, count: int
) -> None:
    house = make_house(kind, SMTP_URL=smtp_url)
    house.start_worker()
    house.start("periodiq", "worker", ready="Scheduling")
    emails = addresses(count)
    file = house.folder / "addresses.txt"
    file.write_text("\n".join(emails))
    done = house.run("pending", "signup", "--file", str(file))
    assert done.returncode == 0, done.stderr
    wait_until_done(house)
    assert_one_each(mailbox, emails)
    assert_nothing_piled_up(house)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kick_alone_brings_the_mail(
    make_house: MakeHouse, mailbox: Mailbox, smtp_url: str, kind: str
) -> None:
    house = make_house(kind, SMTP_URL=smtp_url, **NEVER_BY_ITSELF)
    house.start_worker()
    sign_up(house, ["dan@example.com"])
    wait_until_done(house)
    assert_one_each(mailbox, ["dan@example.com"])
    assert str(mailbox.mails[0]["Message-ID"]).startswith("<")


def test_the_clock_alone_brings_the_mail(
    make_house: MakeHouse, mailbox: Mailbox, smtp_url: str
) -> None:
    house = make_house(SMTP_URL=smtp_url, **NEVER_BY_ITSELF)
    house.start_worker()
    insert_by_hand(house, ["dan@example.com"])
    house.start("periodiq", "worker", ready="Scheduling")
    wait_until_done(house)
    assert_one_each(mailbox, ["dan@example.com"])


def insert_by_hand(house: House, emails: list[str]) -> None:
    """Mark rows as another service would, in plain SQL."""
    with house.database.connection_context(), house.database.atomic():
        quote = house.database.quote[0]
        sign = house.database.param
        for email in emails:
            house.database.execute_sql(
                f"INSERT INTO {quote}user{quote} (email) VALUES ({sign})", (email,)
            )
        house.database.execute_sql(
            f"UPDATE {quote}user{quote} SET needs_welcome_email = TRUE"
        )


@pytest.mark.parametrize("kind", KINDS)
def test_marks_made_by_raw_sql_are_found(
    make_house: MakeHouse, mailbox: Mailbox, smtp_url: str, kind: str
) -> None:
    house = make_house(kind, SMTP_URL=smtp_url)
    house.start_worker()
    insert_by_hand(house, addresses(200))
    wait_until_done(house)
    assert_one_each(mailbox, addresses(200))


def test_a_worker_that_starts_late_finds_all(
    make_house: MakeHouse, mailbox: Mailbox, smtp_url: str
) -> None:
    house = make_house(SMTP_URL=smtp_url)
    sign_up(house, addresses(1000))
    lists = {key: n for key, n in house.keys().items() if key.endswith(":pending")}
    assert sum(lists.values()) == 1, "one bell hangs, however many were marked"
    house.start_worker()
    wait_until_done(house)
    assert_one_each(mailbox, addresses(1000))
    assert_nothing_piled_up(house)


def test_a_redis_that_is_emptied_every_second_loses_nothing(
    make_house: MakeHouse, mailbox: Mailbox, smtp_url: str, tmp_path: Path
) -> None:
    server = embedded_redis(tmp_path, name="flushed")
    try:
        house = make_house(SMTP_URL=smtp_url, REDIS_URL=server.url)
        house.start_worker()
        house.start("periodiq", "worker", ready="Scheduling")
        with every_second(house.redis.flushall):
            for start in range(0, 2000, 250):
                sign_up(house, addresses(2000)[start : start + 250])
            wait_until_done(house)
        assert_one_each(mailbox, addresses(2000))
    finally:
        server.stop()


def test_a_redis_that_is_gone_neither_fails_nor_delays_the_marking(
    make_house: MakeHouse, mailbox: Mailbox, smtp_url: str, tmp_path: Path
) -> None:
    server = embedded_redis(tmp_path, name="gone")
    house = make_house(SMTP_URL=smtp_url, REDIS_URL=server.url)
    house.start_worker()
    server.stop()
    sign_up(house, addresses(200))
    wait_until_done(house)
    assert_one_each(mailbox, addresses(200))
    again = embedded_redis(tmp_path, name="gone")
    try:
        wait_for(lambda: "Redis is back" in house.log("dramatiq", "worker"))
        sign_up(house, ["back@example.com"])
        wait_until_done(house)
        assert_one_each(mailbox, [*addresses(200), "back@example.com"])
    finally:
        again.stop()


@pytest.mark.parametrize("count", [96, 1440])
def test_old_sweeps_are_dropped_and_at_most_one_runs(
    make_house: MakeHouse, count: int
) -> None:
    house = make_house(**NEVER_BY_ITSELF)
    hang_old_sweeps(house, count)
    house.start_worker()
    wait_for(lambda: not _messages(house), what=f"all heard: {house.keys()}")
    assert house.log("dramatiq", "worker").count("swept flags=") <= 1


def hang_old_sweeps(house: House, count: int) -> None:
    """Put into the queue what a clock has sent, one a minute, to no worker."""
    script = f"""
from dramatiq.brokers.redis import RedisBroker
import pendulum, time
from worker import broker, sweep
stock = RedisBroker(client=broker.client, namespace=broker.namespace)
for minutes in reversed(range({count})):
    at = pendulum.now().subtract(minutes=minutes)
    sweep_message = sweep.message_with_options(scheduled_at=str(at))
    stock.enqueue(sweep_message.copy(message_timestamp=int(at.timestamp() * 1000)))
"""
    done = house.run("python", "-c", script)
    assert done.returncode == 0, done.stderr
    assert house.redis.llen(f"{house.namespace}:pending.sweeps") == count


def test_a_transaction_that_rolls_back_sends_no_mail(
    make_house: MakeHouse, mailbox: Mailbox, smtp_url: str
) -> None:
    house = make_house(SMTP_URL=smtp_url)
    house.start_worker()
    with house.database.bind_ctx([User]), house.database.connection_context():
        with house.database.atomic() as transaction:
            User.create(email="never@example.com", needs_welcome_email=True)
            transaction.rollback()
        with house.database.atomic():
            User.create(email="late@example.com", needs_welcome_email=True)
            looks = house.log("dramatiq", "worker")
            sign_up(house, ["first@example.com"])
            wait_for(lambda: mailbox.per_address()["first@example.com"])
            assert "late@example.com" not in mailbox.per_address(), looks
    wait_until_done(house)
    assert_one_each(mailbox, ["first@example.com", "late@example.com"])


def test_an_smtp_server_that_is_away_for_a_while_loses_no_mail(
    make_house: MakeHouse, mailbox: Mailbox
) -> None:
    port = free_port()
    house = make_house(SMTP_URL=f"smtp://127.0.0.1:{port}")
    house.start_worker()
    sign_up(house, addresses(50))
    wait_for(lambda: house.log("dramatiq", "worker").count("released ") >= 50)
    make_all_due(house)
    with smtp_server(mailbox, port):
        wait_until_done(house)
    assert_one_each(mailbox, addresses(50))


def make_all_due(house: House) -> None:
    flag = User.needs_welcome_email
    with house.database.bind_ctx([User]), house.database.connection_context():
        User.update({flag.due: 0}).where(User.needs_welcome_email).execute()


def test_refused_addresses_are_parked_or_tried_again(
    make_house: MakeHouse, mailbox: Mailbox, smtp_url: str
) -> None:
    replies = {"gone@example.com": "550 no such user", "full@example.com": "452 full"}
    mailbox.refuse = replies.get
    house = make_house(SMTP_URL=smtp_url)
    house.start_worker()
    sign_up(house, [*replies, "dan@example.com"])
    wait_for(lambda: mailbox.per_address()["dan@example.com"])
    errors = wait_for(lambda: errors_of(house, 2))
    assert "550 no such user" in errors["gone@example.com"]
    assert "452" in errors["full@example.com"]
    mailbox.refuse = lambda address: None
    make_all_due(house)
    wait_until_done(house)
    assert_one_each(mailbox, [*replies, "dan@example.com"])
    ids = [mail["Message-ID"] for mail in mailbox.mails]
    assert len(set(ids)) == 3


def errors_of(house: House, count: int) -> dict[str, str]:
    with house.database.bind_ctx([User]), house.database.connection_context():
        users = {user.email: user.needs_welcome_email_error for user in User.select()}
    errors = {email: error for email, error in users.items() if error}
    return errors if len(errors) == count else {}


SHOP = """
from datetime import timedelta
from peewee import CharField
from models import PendingFlag, PendingModel
from worker import handles

class Order(PendingModel):
    name = CharField()
    receipt = CharField(null=True)
    needs_receipt = PendingFlag()

@handles(Order.needs_receipt, wait=timedelta(hours=1))
def send_receipt(order):
    if order.name == "broken":
        raise ValueError("no receipt \\0 for " + order.name)
    if order.name == "exit":
        raise SystemExit(3)
    order.receipt = "sent to " + order.name
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_raising_handler_is_its_rows_failure_alone(
    make_house: MakeHouse, kind: str
) -> None:
    house = make_house(kind)
    (house.folder / "flow_shop.py").write_text(SHOP)
    names = ["a", "broken", "b", "exit", "c"]
    script = f"""
import flow_shop as shop
from worker import mark_pending
shop.Order.create_table()
for name in {names}: mark_pending(shop.Order(name=name), "needs_receipt")
"""
    done = house.run("python", "-c", script)
    assert done.returncode == 0, done.stderr
    worker = house.start_worker("flow_shop")
    rows = wait_for(lambda: receipts(house, settled=len(names)))
    assert [rows[name][0] for name in ("a", "b", "c")] == [
        "sent to a",
        "sent to b",
        "sent to c",
    ]
    assert "ValueError: no receipt \\0 for broken" in rows["broken"][2]
    assert "SystemExit: 3" in rows["exit"][2]
    assert worker.poll() is None, "the worker lives"


def receipts(house: House, *, settled: int) -> dict[str, tuple[str, bool, str]]:
    """Name → receipt, flag, error; empty until every row was handled once."""
    with house.database.connection_context():
        cursor = house.database.execute_sql(
            "SELECT name, receipt, needs_receipt, needs_receipt_error FROM "
            + ("`order`" if house.database.quote == "``" else '"order"')
        )
        rows = {name: tuple(rest) for name, *rest in cursor.fetchall()}
    done = sum(bool(receipt or error) for receipt, _, error in rows.values())
    return rows if done == settled else {}  # type: ignore[return-value]


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_stop_leaves_no_row_held(
    make_house: MakeHouse, mailbox: Mailbox, smtp_url: str, by: int
) -> None:
    house = make_house(SMTP_URL=smtp_url)
    worker = house.start_worker()
    sign_up(house, addresses(300))
    wait_for(lambda: mailbox.mails)
    assert end(worker, by=by) == 0
    flag = User.needs_welcome_email
    with house.database.bind_ctx([User]), house.database.connection_context():
        assert not User.select().where(flag.lease.is_null(False)).count()
    house.start_worker()
    wait_until_done(house)
    assert_one_each(mailbox, addresses(300))


@pytest.mark.parametrize(
    ("command", "environment", "words"),
    [
        (("dramatiq", "worker"), {"SWEEP_CRON": "nonsense"}, "SWEEP_CRON"),
        (("periodiq", "worker"), {"SWEEP_CRON": "nonsense"}, "SWEEP_CRON"),
        (("pending", "signup", "x@example.com"), {"DATABASE_URL": "foo"}, "'foo'"),
        (("dramatiq", "worker"), {"DATABASE_URL": "foo"}, "'foo'"),
        (
            ("dramatiq", "worker"),
            {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"},
            "does not answer",
        ),
        (
            ("pending", "migrate"),
            {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"},
            "127.0.0.1",
        ),
    ],
)
def test_a_bad_setting_ends_with_one_clear_line(
    tmp_path: Path, command: tuple[str, ...], environment: dict[str, str], words: str
) -> None:
    base = {k: os.environ[k] for k in ("DATABASE_URL", "REDIS_URL", "REDIS_NAMESPACE")}
    house = House(tmp_path, **base)
    house.environment |= environment
    with house:
        done = house.run(*command)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr


LATE = """
import sys, time
from dramatiq import cli
watch = cli.watch_logs
def watch_late(*arguments):
    time.sleep(0.5)
    watch(*arguments)
cli.watch_logs = watch_late
sys.argv = ["dramatiq", "worker"]
sys.exit(cli.main())
"""


def test_a_worker_that_cannot_begin_is_heard_by_a_main_process_that_listens_late(
    tmp_path: Path,
) -> None:
    base = {k: os.environ[k] for k in ("DATABASE_URL", "REDIS_URL", "REDIS_NAMESPACE")}
    with House(tmp_path, **base) as house:
        house.environment["DATABASE_URL"] = "foo"
        done = house.run("python", "-c", LATE)
    assert done.returncode != 0
    assert "'foo'" in done.stderr


def test_a_child_does_not_outlive_its_main_process(
    make_house: MakeHouse,
) -> None:
    house = make_house()
    worker = house.start_worker()
    children = [int(pid) for pid in _children(worker.pid)]
    assert len(children) >= 2
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    wait_for(lambda: not any(_lives(pid) for pid in children))


TALKATIVE = """
import logging, os, time
from peewee import CharField
from models import PendingFlag, PendingModel
from worker import handles

class Order(PendingModel):
    name = CharField()
    receipt = CharField(null=True)
    needs_receipt = PendingFlag()

main = os.getppid()

@handles(Order.needs_receipt)
def send_receipt(order):
    logging.warning("at work")
    while os.getppid() == main:
        time.sleep(0.01)
    for _ in range(100):
        logging.warning("nobody reads this %s", "x" * 4000)
    order.receipt = "sent"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can read its own pipe")
def test_a_child_that_nobody_reads_finishes_its_rows_and_ends(
    make_house: MakeHouse,
) -> None:
    house = make_house(LEASE_SECONDS="600")
    (house.folder / "talkative.py").write_text(TALKATIVE)
    mark = "from talkative import Order; Order.create_table()"
    mark += "; Order.create(name='a', needs_receipt=True)"
    done = house.run("python", "-c", mark)
    assert done.returncode == 0, done.stderr
    worker = house.start_worker("talkative")
    wait_for(lambda: "at work" in house.log("dramatiq", "worker"))
    children = [int(pid) for pid in _children(worker.pid)]
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    wait_for(lambda: not any(_lives(pid) for pid in children))
    assert receipts(house, settled=1)["a"] == ("sent", False, None)


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_idle_sweep_rings_nothing(make_house: MakeHouse) -> None:
    house = make_house(SWEEP_SECONDS="0.1")
    house.start_worker()
    started = time.monotonic()
    wait_for(lambda: time.monotonic() - started > 1)
    assert_nothing_piled_up(house)
    assert "finished" not in house.log("dramatiq", "worker")
