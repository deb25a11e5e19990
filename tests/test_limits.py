"""Limits of handlers, with real workers that are killed; there is no Redis."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections import defaultdict
from itertools import pairwise
from types import SimpleNamespace

import pytest
from faulty import HERE, shops
from waiting import wait_for

DATABASES = ("sqlite", "postgresql", "mysql")


@pytest.fixture
def post_office(tmp_path, server_url):
    """Return a function that opens a shop with letters to be posted."""
    with shops(tmp_path, server_url) as open_shop:

        def open_post_office(kind, seed, **environment):
            shop = open_shop(kind, **environment)
            shutil.copy(HERE / "bounded.py", shop.folder)
            asked(shop, f"seed({seed})")
            return shop

        yield open_post_office


def asked(shop, call):
    """Run a function of `bounded` in the shop, and return what it returns."""
    done = shop.run(sys.executable, "-c", f"import bounded; print(bounded.{call})")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def start(shop, *, threads=4):
    """Start a worker of one process."""
    name = f"worker-{len(shop.processes)}"
    options = ("--processes", "1", "--threads", str(threads))
    return shop.start(
        "dramatiq", "worker", "bounded", *options, "--pid-file", shop.folder / name
    )


def calls(shop):
    """What was noted, in order; a process that was killed may not have ended some."""
    path = shop.folder / "calls"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [
        SimpleNamespace(
            word=word,
            row=int(row),
            customer=customer,
            attempt=int(attempt),
            pid=int(pid),
            at=float(at),
            claimed=int(claimed),
        )
        for word, row, customer, attempt, pid, at, claimed in map(str.split, lines)
    ]


def kill_amid(shop, worker, count):
    """Kill a worker's whole group once so many calls have begun; return when."""
    wait_for(lambda: len([c for c in calls(shop) if c.word == "begin"]) >= count)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    return time.monotonic()


def spans(shop, killed):
    """When each call ran: its note, from when, until when. What has no end was killed
    at `killed`."""
    open_calls, found = {}, []
    for one in calls(shop):
        place = (one.row, one.pid)
        if one.word == "begin":
            open_calls[place] = one
        else:
            found.append((open_calls.pop(place), one.at))
    found += [(one, killed) for one in open_calls.values()]
    return [(one, one.at, end) for one, end in found]


def most_at_once(found):
    """Return the most spans that have a moment in common."""
    steps = sorted(step for _, a, b in found for step in ((a, 1), (b, -1)))
    now = most = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def until_all_are_posted(shop):
    wait_for(lambda: asked(shop, "pending('needs_post')") == "0", seconds=120)


@pytest.mark.parametrize(
    ("kind", "handler"),
    [
        *((kind, "plain") for kind in DATABASES),
        ("postgresql", "batch"),
        *((kind, "async") for kind in DATABASES),
    ],
)
def test_no_more_calls_run_at_once_over_all_processes_than_allowed(
    post_office, kind, handler
):
    """Also when a worker is killed amid them: its calls' places are free again when
    their leases are over, and not before."""
    shop = post_office(kind, "60, 1", KIND=handler, AT_ONCE="3")
    dying, _ = start(shop), start(shop)
    killed = kill_amid(shop, dying, 8)
    start(shop)
    until_all_are_posted(shop)
    assert most_at_once(spans(shop, killed)) <= 3
    assert {one.row for one in calls(shop)} <= set(range(1, 61))


def test_without_a_limit_more_calls_run_at_once(post_office):
    """Else the test above would show nothing."""
    shop = post_office("postgresql", "60, 1", TAKES="0.2")
    start(shop), start(shop)
    wait_for(lambda: most_at_once(spans(shop, time.monotonic())) > 3)


@pytest.mark.parametrize(
    ("kind", "handler"),
    [
        *((kind, "plain") for kind in DATABASES),
        ("postgresql", "async"),
        ("postgresql", "atomic"),
    ],
)
def test_no_more_calls_begin_than_the_rate_says_whoever_is_killed(
    post_office, kind, handler
):
    """By the database's clock, when their rows were claimed."""
    shop = post_office(kind, "50, 1", KIND=handler, RATE="10/s", TAKES="0.01")
    dying, _ = start(shop), start(shop)
    kill_amid(shop, dying, 12)
    until_all_are_posted(shop)
    begun = sorted(one.claimed for one in calls(shop) if one.word == "begin")
    assert len(begun) >= 50
    for first, later in zip(begun, begun[10:], strict=False):
        assert later - first >= 1_000
    ended = [one for one in calls(shop) if one.word == "end"]
    crashed = {one.row for one in calls(shop)} - {
        one.row for one in ended if one.attempt == 1
    }
    assert len(crashed) <= 10, "rows that only waited for the rate had an attempt"


def test_rows_that_wait_for_their_rate_hold_no_thread(post_office):
    """One thread: the other flag's rows are done meanwhile."""
    shop = post_office("postgresql", "20, 1, stamps=300", RATE="2/h", TAKES="0.01")
    start(shop, threads=1)
    wait_for(lambda: asked(shop, "pending('needs_stamp')") == "0")
    wait_for(lambda: len([c for c in calls(shop) if c.word == "end"]) == 2)
    assert asked(shop, "pending('needs_post')") == "18"
    assert len(calls(shop)) == 4


@pytest.mark.parametrize("kind", DATABASES)
def test_rows_that_are_alike_run_one_after_the_other_whoever_is_killed(
    post_office, kind
):
    """In the order of their marks, also those that fail at first."""
    shop = post_office(kind, "48, 6, bad=2", IN_ORDER="yes", TAKES="0.02")
    dying, _ = start(shop), start(shop)
    killed = kill_amid(shop, dying, 10)
    start(shop)
    until_all_are_posted(shop)
    found = defaultdict(list)
    for one, begin, end in spans(shop, killed):
        found[one.customer].append((begin, end, one.row))
    assert len(found) == 6
    for customer, own in found.items():
        own.sort()
        rows = [row for _, _, row in own]
        assert rows == sorted(rows), customer
        assert len(set(rows)) == 8, customer
        assert all(end <= begin for (_, end, _), (begin, _, _) in pairwise(own))
