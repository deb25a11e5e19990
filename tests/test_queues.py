"""Flags that name a queue, and a priority; workers that listen to some queues alone."""

from __future__ import annotations

import os
import textwrap
import uuid

import pytest
from bells import bell_broker, declare, empty, hanging, working
from domain import Order, Seat
from house import BIN, House
from looking import state
from waiting import wait_for

from models import DefinitionError, PendingFlag, PendingModel
from worker import choosing, handles, mark_pending, sweep
from worker.brokers import bells
from worker.choosing import BELLS, SWEEPS, is_own, listen_to, own_handlers
from worker.kicking import bell_of, hearing, kick, ring
from worker.resting import look_again, rests
from worker.sweeping import due_flags
from worker.watching import Watch

pytestmark = pytest.mark.usefixtures("handlers")


@pytest.fixture(autouse=True)
def all_queues(monkeypatch):
    monkeypatch.setattr(choosing, "_queues", None)


@pytest.fixture
def mails(monkeypatch):
    """Orders' receipts go to a queue of their own."""
    monkeypatch.setattr(Order.needs_receipt, "queue", "mails")


def nothing(row):
    """Handle a row by doing nothing."""


@pytest.mark.parametrize(
    "queue", ["", "two words", "9lives", "mails.DQ", "mails.XQ", "a/b", None, "x" * 101]
)
def test_a_name_that_is_no_queue_s_is_refused_where_it_is_declared(queue):
    with pytest.raises(DefinitionError, match="is no name of a queue: letters"):
        PendingFlag(queue=queue)


@pytest.mark.parametrize("priority", [1.5, "1", None, True])
def test_a_priority_that_is_no_whole_number_is_refused(priority):
    with pytest.raises(DefinitionError, match="priority is a whole number, not"):
        PendingFlag(priority=priority)


def test_a_flag_that_is_inherited_has_the_queue_of_its_base():
    class Mailed(PendingModel):
        needs_mail = PendingFlag(queue="mails", priority=3)

    class Letter(Mailed):
        pass

    assert (Letter.needs_mail.queue, Letter.needs_mail.priority) == ("mails", 3)


@pytest.mark.usefixtures("mails")
def test_a_producer_needs_no_handler_to_ring_in_the_flag_s_queue(
    database, redis_client
):
    mark_pending(Order.create(), Order.needs_receipt)
    mark_pending(Seat.create(room="a", number=1), Seat.needs_cleaning)
    assert hanging(redis_client, "mails.bells") == [("kick", Order.needs_receipt.label)]
    assert hanging(redis_client) == [("kick", Seat.needs_cleaning.label)]


@pytest.mark.usefixtures("mails")
def test_many_kicks_in_a_queue_are_one_message_too(redis_client):
    for _ in range(3):
        assert ring(Order.needs_receipt)
    assert len(hanging(redis_client, "mails.bells")) == 1


@pytest.mark.usefixtures("mails")
def test_a_worker_of_some_queues_has_the_handlers_of_these_alone():
    for flag in (Order.needs_receipt, Seat.needs_cleaning):
        handles(flag)(nothing)
    listen_to({"mails"})
    assert [one.flag.label for one in own_handlers()] == [Order.needs_receipt.label]
    assert hearing() == ["mails.bells"]
    listen_to({BELLS})
    assert not is_own(Order.needs_receipt)
    assert BELLS in hearing()
    listen_to(None)
    assert set(hearing()) >= {BELLS, "mails.bells"}


@pytest.mark.usefixtures("mails")
def test_a_kick_of_another_queue_s_flag_is_not_heeded(database):
    handles(Order.needs_receipt)(nothing)
    row = Order.create(needs_receipt=True)
    listen_to({BELLS})
    kick(Order.needs_receipt.label)
    assert state(Order.needs_receipt, row).flag
    listen_to({"mails"})
    kick(Order.needs_receipt.label)
    assert not state(Order.needs_receipt, row).flag


@pytest.mark.usefixtures("mails")
def test_the_watch_looks_at_its_own_queues_and_a_sweep_at_all(database, redis_client):
    for flag in (Order.needs_receipt, Seat.needs_cleaning):
        handles(flag)(nothing)
    Order.create(needs_receipt=True)
    Seat.create(room="a", number=1, needs_cleaning=True)
    empty(redis_client)
    listen_to({BELLS})
    own = [flag.label for flag in due_flags(own_handlers())]
    assert Order.needs_receipt.label not in own
    assert Seat.needs_cleaning.label in own
    sweep()
    assert ("kick", Order.needs_receipt.label) in hanging(redis_client, "mails.bells")
    assert ("kick", Seat.needs_cleaning.label) in hanging(redis_client)


def test_sweeps_have_a_queue_of_their_own():
    assert sweep.queue_name == SWEEPS


def test_the_most_urgent_flag_is_looked_at_first(database, monkeypatch):
    flags = [Order.needs_receipt, Seat.needs_cleaning, Order.needs_label]
    for flag, priority in zip(flags, (5, -1, 2), strict=True):
        monkeypatch.setattr(flag, "priority", priority)
        handles(flag)(nothing)
    Order.create(needs_receipt=True, needs_label=True)
    Seat.create(room="a", number=1, needs_cleaning=True)
    labels = [flag.label for flag in due_flags() if flag in flags]
    assert labels == [flags[1].label, flags[2].label, flags[0].label]


def test_of_the_bells_that_hang_the_most_urgent_is_heard_first(
    redis_client, monkeypatch
):
    flags = {Order.needs_receipt: 7, Seat.needs_cleaning: 0, Order.needs_label: -7}
    for flag, priority in flags.items():
        monkeypatch.setattr(flag, "priority", priority)
        handles(flag)(nothing)
    hearing()
    known = {name: actor.priority for name, actor in bells.actors.items()}
    assert {known["kick.7"], known["kick"], known["kick.-7"]} == {7, 0, -7}
    heard = []
    with bell_broker(os.environ["REDIS_URL"]) as own:
        for name in ("kick.7", "kick", "kick.-7"):
            declare(own, name, heard.append)
        for flag in [*flags, Order.needs_receipt]:
            own.ring(bell_of(flag))
        with working(own):
            wait_for(lambda: len(heard) == 3)
    assert heard == [flag.label for flag in reversed(flags)]


def test_a_flag_that_rests_is_looked_for_when_its_time_has_come(database, monkeypatch):
    handles(Order.needs_receipt)(nothing)
    Order.create(needs_receipt=True)
    rests.begin(Order.needs_receipt, seconds=0.2)
    try:
        watch = Watch()
        assert Order.needs_receipt not in due_flags()
        found = []
        wait_for(lambda: found.append(next(watch)) or any(kicks(found)))
        assert kicks(found)[0] == Order.needs_receipt.label
        assert not rests.hold(Order.needs_receipt)
    finally:
        rests._resting.clear()
        look_again.clear()


def kicks(messages):
    return [m.args[0] for m in messages if m and "receipt" in m.args[0]]


SHOP = """
    from peewee import CharField
    from models import PendingFlag, PendingModel
    from worker import handles

    class Parcel(PendingModel):
        name = CharField()
        done_by = CharField(default="")
        needs_mail = PendingFlag(queue="mails")
        needs_label = PendingFlag()

    def done(flag, parcel):
        import os
        with open(os.environ["NOTES"], "a") as notes:
            notes.write(f"{flag} {parcel.id}\\n")

    @handles(Parcel.needs_mail)
    def mail(parcel):
        done("mail", parcel)

    @handles(Parcel.needs_label)
    def label(parcel):
        done("label", parcel)
"""

UNHEARD = "in any live worker that listens to the queue pending"

MARK = """
import worker
from parcels_shop import Parcel
Parcel.create(name="a", needs_mail=True, needs_label=True)
"""


@pytest.mark.parametrize("rung", [True, False], ids=["bells", "watch"])
def test_a_worker_of_one_queue_does_its_flags_and_no_other(tmp_path, server_url, rung):
    """Rung for or found by itself; the doctor says whose work nobody does."""
    (tmp_path / "parcels_shop.py").write_text(textwrap.dedent(SHOP))
    notes = tmp_path / "notes.txt"
    notes.touch()
    environment = {
        "DATABASE_URL": server_url("postgresql"),
        "REDIS_URL": os.environ["REDIS_URL"],
        "REDIS_NAMESPACE": f"{os.environ['REDIS_NAMESPACE']}-{uuid.uuid4()}",
        "SWEEP_SECONDS": "3600" if rung else "0.2",
        "PENDING_MODULES": "parcels_shop",
        "NOTES": str(notes),
    }
    python = str(BIN / "python")
    with House(tmp_path, **environment) as house:
        assert house.run("pending", "migrate").returncode == 0
        create = "from parcels_shop import Parcel; Parcel.create_table()"
        assert house.run(python, "-c", create).returncode == 0
        if not rung:
            assert house.run(python, "-c", MARK).returncode == 0
        command = ("dramatiq", "worker", "parcels_shop", "-Q", "mails", "-p", "1")
        house.start(*command, ready="ready for action")
        if rung:
            assert house.run(python, "-c", MARK).returncode == 0
        wait_for(lambda: notes.read_text() == "mail 1\n")
        wait_for(lambda: UNHEARD in doctor(house))
        assert house.run("pending", "sweep").returncode == 0
        assert notes.read_text() == "mail 1\n"
        house.start("dramatiq", "worker", "parcels_shop", "-Q", "pending", "-p", "1")
        wait_for(lambda: notes.read_text() == "mail 1\nlabel 1\n")


def doctor(house):
    return " ".join(house.run("pending", "doctor").stdout.split())
