"""Heartbeats: a process says what it does; the others see whether it still does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from models import heartbeats
from models.heartbeats import Beat, beat, forget, leave, processes
from models.operations import Heartbeat

SECOND = timedelta(seconds=1)
BEAT = Beat(
    id="a:1",
    host="a",
    pid=1,
    kind="worker",
    threads=8,
    age=60 * SECOND,
    looked=SECOND,
    drained=None,
    held={"order.needs_receipt": 2, "order.needs_label": 0},
)


def test_a_process_is_seen_as_it_says(operations):
    beat(BEAT)
    (one,) = processes()
    assert (one.id, one.host, one.pid, one.kind, one.threads) == (
        *("a:1", "a", 1, "worker", 8),
    )
    assert one.held == BEAT.held
    assert one.seen - one.started == 60 * SECOND
    assert one.seen - one.looked == SECOND
    assert one.drained is None
    assert one.alive
    assert one.looking


def test_each_beat_replaces_the_last_one_but_for_the_start(operations):
    beat(BEAT)
    (first,) = processes()
    beat(replace(BEAT, age=99 * SECOND, held={}, drained=timedelta(0)))
    (second,) = processes()
    assert second.started == first.started
    assert (second.held, second.drained) == ({}, second.seen)


def test_a_process_that_beats_but_does_not_look_is_told_from_one_that_does(operations):
    beat(replace(BEAT, looked=timedelta(minutes=5)))
    (one,) = processes(looks_within=timedelta(minutes=1))
    assert (one.alive, one.looking) == (True, False)
    (one,) = processes(looks_within=timedelta(minutes=10))
    assert one.looking


def test_a_process_that_was_not_seen_for_long_is_dead(operations):
    beat(BEAT)
    Heartbeat.update(seen=Heartbeat.seen - 30_000).execute()
    (one,) = processes()
    assert (one.alive, one.looking) == (False, False)


def test_processes_leave_and_are_forgotten(operations):
    for name in ("a", "b", "c"):
        beat(replace(BEAT, id=name))
    leave("a")
    assert {one.id for one in processes()} == {"b", "c"}
    old = heartbeats._FORGOTTEN_AFTER / timedelta(milliseconds=1) + 1_000
    Heartbeat.update(seen=Heartbeat.seen - old).where(Heartbeat.id == "b").execute()
    assert forget() == 1
    assert [one.id for one in processes()] == ["c"]
