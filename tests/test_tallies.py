"""Tallies: many processes add, nothing is lost, and little is kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from models import tallies
from models.connection import connected
from models.operations import Count
from models.tallies import BUCKETS, buckets, histogram

SECOND = timedelta(seconds=1)
FLAG, OTHER = "shop.needs_receipt", "shop.needs_label"


def test_totals_grow_and_minutes_are_kept_beside_them(operations):
    for _ in range(3):
        tallies.add({(FLAG, "finished"): 2, (FLAG, "failed"): 1, (OTHER, "x"): 5})
    assert tallies.totals() == {FLAG: {"finished": 6, "failed": 3}, OTHER: {"x": 15}}
    (minute, *_) = tallies.minutes(FLAG, since=datetime.now(UTC) - timedelta(hours=1))
    assert minute.start.second == 0
    assert (
        sum(
            m.counts["finished"]
            for m in tallies.minutes(FLAG, since=datetime(1970, 1, 1, tzinfo=UTC))
        )
        == 6
    )


def test_nothing_is_added_for_nothing(operations):
    tallies.add({})
    assert tallies.totals() == {}


def test_processes_that_add_at_once_lose_nothing(operations):
    names = [f"name{n}" for n in range(20)]

    def add(turn):
        with connected(operations):
            order = names if turn % 2 else names[::-1]
            tallies.add({(FLAG, name): 1 for name in order})

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, range(40)))
    assert set(tallies.totals()[FLAG].values()) == {40}


def test_the_pace_is_that_of_the_last_minutes(operations):
    tallies.add({(FLAG, "finished"): 60, (FLAG, "wait:100"): 10, (FLAG, "wait_ms"): 90})
    Count.insert(flag=FLAG, minute=1, name="finished", n=1_000).execute()
    pace = tallies.paces([FLAG, OTHER], over=5)[FLAG]
    assert 10 <= pace.finished <= 12
    assert (pace.failed, pace.wait.total, pace.duration.total) == (0, 10, 0)
    assert pace.wait.sum == timedelta(milliseconds=90)
    assert tallies.paces([OTHER])[OTHER].wait.quantile(0.5) is None


def test_what_is_older_than_a_day_goes_and_totals_stay(operations):
    tallies.add({(FLAG, "finished"): 1})
    Count.insert(flag=FLAG, minute=1, name="finished", n=7).execute()
    assert tallies.prune() == 1
    assert tallies.totals() == {FLAG: {"finished": 1}}
    assert tallies.prune() == 0


def test_a_minute_is_sampled_once_and_the_last_sample_counts(operations):
    assert not tallies.sampled(FLAG)
    tallies.add_sample(FLAG, {"due": 3, "parked": 1})
    tallies.add_sample(FLAG, {"due": 2, "parked": 1})
    assert tallies.sampled(FLAG)
    assert not tallies.sampled(OTHER)
    (minute,) = tallies.minutes(FLAG, since=datetime.now(UTC) - timedelta(hours=1))
    assert minute.counts == {"due": 2, "parked": 1}
    assert tallies.totals() == {}


def test_the_last_sweep_is_the_latest_that_anybody_heard(operations):
    assert tallies.last_sweep() is None
    tallies.note_sweep(age=SECOND)
    tallies.note_sweep(age=timedelta(hours=1))
    age = datetime.now(UTC) - tallies.last_sweep()
    assert timedelta(0) < age < timedelta(minutes=1)
    assert tallies.totals() == {}


@pytest.mark.parametrize(
    ("ms", "name"),
    [(0, "5"), (5, "5"), (5.1, "10"), (86_400_000, "86400000"), (1e12, "inf")],
)
def test_a_time_belongs_to_the_first_bucket_that_holds_it(ms, name):
    assert buckets("wait", [ms, ms]) == {f"wait:{name}": 2}


def test_quantiles_are_read_from_the_buckets():
    times = [3] * 50 + [60] * 45 + [2_000] * 5
    counts = {**buckets("wait", times), "wait_ms": sum(times)}
    found = histogram(counts, "wait")
    assert found.total == 100
    assert found.quantile(0.5) == timedelta(milliseconds=5)
    assert (
        timedelta(milliseconds=50) < found.quantile(0.9) <= timedelta(milliseconds=100)
    )
    assert found.quantile(0.99) <= timedelta(milliseconds=2_500)
    assert found.sum == timedelta(milliseconds=sum(times))


def test_times_above_all_buckets_are_said_to_be_the_last_bound():
    assert histogram({"wait:inf": 1}, "wait").quantile(0.5) == timedelta(
        milliseconds=BUCKETS[-1]
    )
