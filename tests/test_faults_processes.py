"""Processes that are killed, frozen, stuck or told to stop: no row is lost."""

from __future__ import annotations

import os
import signal
import time

import pytest
from faulty import WORKER, child_of, frozen, is_idle, kill, shops
from waiting import wait_for

from models import NEVER

FILES_AND_SERVERS = ("sqlite", "postgresql")
KINDS = (*FILES_AND_SERVERS, "mysql")


@pytest.fixture
def open_shop(tmp_path, server_url):
    with shops(tmp_path, server_url) as open_shop:
        yield open_shop


# Killed.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("step", "attempts"),
    [
        ("before claim", [1]),
        ("after claim", [2]),
        ("before finish", [1, 2]),
        ("after finish", [1]),
    ],
)
def test_a_worker_killed_at_any_step_loses_nothing(open_shop, kind, step, attempts):
    shop = open_shop(kind)
    shop.order("fine-1")
    with shop.told(DIE=step):
        dying = shop.start(*WORKER, "deeds", "--processes", "1")
    assert dying.wait(60) != 0
    shop.work()
    shop.until_idle("fine-1")
    assert shop.attempts("fine-1") == attempts
    after = shop.look("fine-1")
    assert is_idle(after)
    assert after.runs == 1


@pytest.mark.parametrize(("step", "marked"), [("commit", False), ("kick", True)])
def test_a_mark_is_done_if_it_was_committed_whoever_died_afterwards(
    open_shop, step, marked
):
    shop = open_shop("postgresql")
    died = "os.kill(os.getpid(), 9)" if step == "commit" else "pass"
    script = f"""
import os, deeds
deeds.die_at("before kick")
with deeds.database.atomic():
    deeds.Task.create(name="fine-1", needs_work=True)
    {died}
"""
    assert shop.run("python", "-c", script).returncode == -signal.SIGKILL
    shop.order("fine-2")
    shop.work()
    shop.until_idle("fine-2", *(["fine-1"] if marked else []))
    assert shop.attempts("fine-1") == [1] * marked


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_worker_held_is_taken_again_after_the_lease(open_shop, kind):
    """Without the clock and without Redis."""
    shop = open_shop(kind)
    workers = {child_of(worker): worker for worker in (shop.work(), shop.work())}
    shop.order("wait-1")
    pid = shop.began("wait-1")
    os.kill(pid, signal.SIGKILL)
    started = time.monotonic()
    other = shop.began("wait-1", times=2)
    assert time.monotonic() - started < 1 + 0.2 + 5, "lease, sweep, a few seconds"
    assert {pid, other} == set(workers)
    assert shop.look("wait-1").crashes == 1
    shop.go()
    shop.until_idle("wait-1")
    assert shop.attempts("wait-1") == [1, 2]
    assert is_idle(shop.look("wait-1"))


def test_a_child_whose_main_process_was_killed_ends_its_row_and_itself(open_shop):
    shop = open_shop("postgresql")
    worker = shop.work("--threads", "1")
    shop.order("wait-1")
    pid = shop.began("wait-1")
    worker.kill()
    worker.wait()
    other = child_of(shop.work())
    shop.go(pid)
    shop.until_idle("wait-1")
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), what="the child is gone")
    shop.order("fine-1")
    assert shop.began("fine-1") == other
    assert shop.attempts("wait-1") == [1]


@pytest.mark.parametrize("kind", KINDS)
def test_all_is_done_after_everything_was_killed_at_once(open_shop, kind):
    shop = open_shop(kind)
    names = [f"{what}-{n}" for what in ("wait", "slow") for n in range(4)]
    workers = [shop.work("--threads", "2") for _ in range(2)]
    shop.order(*names)
    for name in names[:4]:
        shop.began(name)
    for worker in workers:
        kill(worker)
    shop.go()
    shop.work()
    shop.until_idle(*names)
    assert [shop.attempts(name) for name in names] == [[1, 2]] * 4 + [[1]] * 4
    assert {shop.look(name).runs for name in names} == {1}


# Rows that kill their process.


@pytest.mark.parametrize("kind", FILES_AND_SERVERS)
def test_rows_that_kill_their_process_are_parked_and_those_beside_them_done(
    open_shop, kind
):
    shop = open_shop(kind)
    guilty, others = ["exit-1", "segfault-1"], [f"slow-{n}" for n in range(8)]
    shop.order(*others[:3], *guilty, *others[3:])
    shop.restarting(
        lambda: (
            all(shop.look(name).due == NEVER for name in guilty) and shop.idle(*others)
        )
    )
    for name in guilty:
        assert "3 workers died of it" in shop.look(name).error
        # The first one may have been taken from it by the other's crash.
        assert shop.attempts(name) in ([1, 2, 3], [2, 3]), "tried so often, no more"
    assert all(is_idle(shop.look(name)) for name in others)
    assert {shop.look(name).runs for name in others} == {1}


@pytest.mark.parametrize(
    ("kind", "deed"),
    [
        ("sqlite", "again"),
        ("postgresql", "again"),
        ("mysql", "again"),
        ("sqlite", "kill"),
    ],
)
def test_a_row_that_kills_its_process_is_parked_also_if_it_is_marked_in_between(
    open_shop, kind, deed
):
    shop = open_shop(kind, MAX_CRASHES="2")
    shop.order(f"{deed}-1")
    shop.restarting(lambda: shop.look(f"{deed}-1").due == NEVER, "--threads", "2")
    assert "2 workers died of it" in shop.look(f"{deed}-1").error
    assert len(shop.attempts(f"{deed}-1")) == 2


# Told to stop.


@pytest.mark.parametrize(
    ("kind", "by", "whom"),
    [
        ("sqlite", signal.SIGTERM, os.kill),
        ("postgresql", signal.SIGTERM, os.kill),
        ("postgresql", signal.SIGTERM, os.killpg),
        ("postgresql", signal.SIGINT, os.killpg),
        ("mysql", signal.SIGTERM, os.killpg),
    ],
)
def test_a_deploy_ends_the_rows_at_work_and_charges_nothing(open_shop, kind, by, whom):
    shop = open_shop(kind)
    worker = shop.work("--threads", "2")
    shop.order("wait-1", "wait-2", "fine-1", "fine-2")
    for name in ("wait-1", "wait-2"):
        shop.began(name)
    whom(worker.pid, by)
    wait_for(lambda: "Shutting down" in shop.working(), what=shop.working())
    shop.go()
    assert worker.wait(60) == 0
    for name in ("wait-1", "wait-2"):
        assert is_idle(shop.look(name))
        assert shop.look(name).runs == 1
    for name in ("fine-1", "fine-2"):
        after = shop.look(name)
        assert (after.flag, after.attempts, after.crashes) == (True, 0, 0)
        assert (after.lease, after.error) == (None, None)
    shop.work()
    shop.until_idle("fine-1", "fine-2")
    assert shop.attempts("fine-1") == shop.attempts("fine-2") == [1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("why", ["the grace period is over", "told again"])
def test_rows_whose_handlers_take_too_long_to_stop_are_given_back(open_shop, kind, why):
    shop = open_shop(kind, LEASE_SECONDS="600")
    patience = "600000" if why == "told again" else "100"
    worker = shop.work("--worker-shutdown-timeout", patience)
    shop.order("wait-1", "wait-2")
    for name in ("wait-1", "wait-2"):
        shop.began(name)
    worker.terminate()

    def is_gone():
        if why == "told again":
            worker.terminate()
        return worker.poll() is not None

    wait_for(is_gone, what=shop.working())
    for name in ("wait-1", "wait-2"):
        after = shop.look(name)
        assert (after.flag, after.lease, after.until) == (True, None, 0)
        assert (after.attempts, after.crashes, after.error) == (0, 0, None)
    shop.go()
    shop.work()
    shop.until_idle("wait-1", "wait-2")
    assert shop.attempts("wait-1") == shop.attempts("wait-2") == [1, 1]


# Frozen, slow and stuck.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", ["zombie", "other"])
def test_a_process_that_wakes_after_its_lease_changes_nothing_and_says_so(
    open_shop, kind, first
):
    shop = open_shop(kind)
    worker = shop.work("--threads", "1")
    shop.order("wait-1")
    zombie = shop.began("wait-1")
    with frozen(zombie):
        other = child_of(shop.work("--threads", "1"))
        assert shop.began("wait-1", times=2) == other
        if first == "other":
            shop.go(other)
            shop.until_idle("wait-1")
    shop.go(zombie)
    wait_for(lambda: "lost flag=task.needs_work" in shop.working())
    shop.go(other)
    shop.until_idle("wait-1")
    after = shop.look("wait-1")
    assert (after.runs, after.done_by) == (1, other)
    assert is_idle(after)
    assert shop.attempts("wait-1") == [1, 2]
    assert worker.poll() is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_whose_handler_is_slow_is_not_run_twice(open_shop, kind):
    shop = open_shop(kind)
    shop.work()
    shop.work()
    shop.order("wait-1")
    shop.began("wait-1")
    first = shop.look("wait-1").until
    wait_for(lambda: shop.look("wait-1").until > first + 3_000, what="three leases")
    shop.go()
    shop.until_idle("wait-1")
    assert shop.attempts("wait-1") == [1]
    assert shop.look("wait-1").runs == 1


def test_a_handler_that_never_ends_is_ended_at_its_time_limit(open_shop):
    shop = open_shop("postgresql", TIME_LIMIT="0.5")
    worker = shop.work("--threads", "1")
    shop.order("loop-1")
    wait_for(lambda: "released flag=task.needs_work" in shop.working())
    assert "TimeLimitExceeded" in shop.working()
    shop.until_idle("loop-1")
    assert shop.attempts("loop-1") == [1, 2]
    assert worker.poll() is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_stuck_in_c_loses_its_row_to_another_worker_and_is_reported(
    open_shop, kind
):
    shop = open_shop(kind, TIME_LIMIT="0.3")
    os.mkfifo(shop.folder / "pipe")
    shop.work("--threads", "1")
    shop.order("stuck-1")
    shop.began("stuck-1")
    other = child_of(shop.work("--threads", "1"))
    assert shop.began("stuck-1", times=2) == other
    shop.until_idle("stuck-1")
    wait_for(lambda: "stuck flag=task.needs_work" in shop.working())
    (shop.folder / "pipe").open("wb").close()
    wait_for(lambda: "lost flag=task.needs_work" in shop.working())
    assert shop.working().count("stuck flag=") == 1, "said once"
    assert "in wait_in_c" in shop.working()
    assert (shop.look("stuck-1").runs, shop.look("stuck-1").done_by) == (1, other)


def test_nothing_that_a_handler_raises_ends_the_worker(open_shop):
    shop = open_shop("postgresql")
    worker = shop.work("--threads", "1")
    names = ["memory-1", "system-1", "interrupt-1", "generator-1", "fine-1"]
    shop.order(*names)
    shop.until_idle("fine-1", *names[1:])
    for error in ("SystemExit: 5", "KeyboardInterrupt", "GeneratorExit", "MemoryError"):
        wait_for(lambda error=error: error in shop.working(), what=error)
    assert worker.poll() is None
    assert [shop.attempts(name)[:2] for name in names] == [[1, 2]] * 4 + [[1]]
