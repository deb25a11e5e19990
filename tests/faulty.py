"""A shop in trouble: a house whose handlers do what their rows' names say."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import stock
from house import House
from looking import state
from stock import Task
from waiting import wait_for

HERE = Path(__file__).parent

#: Nobody listens there: Redis is not needed.
NOWHERE = "redis://127.0.0.1:1/0"

WORKER = ("dramatiq", "worker")


class Shop(House):
    """A house with `stock` for models and `deeds` for handlers.

    Leases last 1 s and each process looks for due rows all the time, so that what a
    fault costs is soon over. There is no Redis, unless given.
    """

    def __init__(self, folder: Path, url: str, **environment: str) -> None:
        settings = {
            "DATABASE_URL": url,
            "REDIS_URL": NOWHERE,
            "REDIS_NAMESPACE": "shop",
            "LEASE_SECONDS": "1",
            "SWEEP_SECONDS": "0.2",
            **environment,
        }
        super().__init__(folder, **settings)
        for module in ("stock.py", "deeds.py"):
            shutil.copy(HERE / module, folder)
        with self.bound():
            self.database.create_tables(stock.MODELS)

    def __exit__(self, *_: object) -> None:
        for process in self.processes:  # at once: how they stop is tested where it is
            kill(process)
        super().__exit__()

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Let the models speak to the shop's database, from the test."""
        with self.database.bind_ctx(stock.MODELS), self.database.connection_context():
            yield

    def order(self, *names: str, model: type[Any] = Task) -> None:
        """Insert rows that are marked; no kick is heard of it."""
        with self.bound(), self.database.atomic():
            (flag,) = model._meta.flags
            for name in names:
                model.create(name=name, **{flag.name: True})

    def work(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker of one process, and wait until it is ready."""
        with self.told(**environment):
            return self.start_worker("deeds", *options, processes=1)

    @contextmanager
    def told(self, **environment: str) -> Iterator[None]:
        """Start what the block starts in an environment of its own."""
        before = self.environment
        self.environment = {**before, **environment}
        try:
            yield
        finally:
            self.environment = before

    def working(self) -> str:
        return self.log(*WORKER)

    def notes(self) -> list[SimpleNamespace]:
        """What the handlers noted: word, name, attempt, pid; in order."""
        path = self.folder / "notes"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        fields = ("word", "name", "attempt", "pid")
        found = [
            SimpleNamespace(**dict(zip(fields, line.split(), strict=True)))
            for line in lines
        ]
        for one in found:
            one.attempt, one.pid = int(one.attempt), int(one.pid)
        return found

    def attempts(self, name: str) -> list[int]:
        """The attempts at a row that began, as their handlers saw them counted."""
        return [n.attempt for n in self.notes() if (n.word, n.name) == ("begin", name)]

    def began(self, name: str, *, times: int = 1, seconds: float = 60) -> int:
        """Wait until the row's handler began so many times; return the last's pid."""
        wait_for(
            lambda: len(self.attempts(name)) >= times,
            seconds=seconds,
            what=f"{name} did not begin: {self.working()[-3000:]}",
        )
        return [n.pid for n in self.notes() if (n.word, n.name) == ("begin", name)][-1]

    def go(self, pid: int | None = None) -> None:
        """Let the waiting handlers go on: all, or those of a process."""
        (self.folder / ("go" if pid is None else f"go-{pid}")).touch()

    def look(self, name: str, model: type[Any] = Task) -> SimpleNamespace:
        """The row's flag, its companions, `runs` and `done_by`, now."""
        with self.bound():
            row = model.get(model.name == name)
            (flag,) = model._meta.flags
            extra = {"runs": row.runs, "done_by": getattr(row, "done_by", None)}
            return SimpleNamespace(**vars(state(flag, row)), **extra)

    def idle(self, *names: str, model: type[Any] = Task) -> bool:
        return not any(self.look(name, model).flag for name in names)

    def until_idle(
        self, *names: str, model: type[Any] = Task, seconds: float = 60
    ) -> None:
        """Wait until the rows are done."""
        wait_for(
            lambda: self.idle(*names, model=model),
            seconds=seconds,
            what=f"not done: {names}: {self.working()[-3000:]}",
        )

    def restarting(self, fact: Callable[[], Any], *options: str) -> None:
        """Start a worker, again whenever it died, until the fact is true."""
        command = (*WORKER, "deeds", "--processes", "1", *options)
        running = [self.start(*command)]

        def look() -> Any:
            if running[-1].poll() is not None:
                running.append(self.start(*command))
            return fact()

        wait_for(look, seconds=120, what=f"{self.working()[-3000:]}")


@contextmanager
def shops(folder: Path, server_url: Callable[[str], str]) -> Iterator[Any]:
    """Yield `open(kind, **environment)`, which opens the test's shop."""
    with ExitStack() as stack:
        yield lambda kind, **environment: stack.enter_context(
            Shop(folder, server_url(kind), **environment)
        )


def kill(worker: subprocess.Popen[bytes]) -> None:
    """Kill a worker's main process and its children at once."""
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def child_of(worker: subprocess.Popen[bytes]) -> int:
    """The process in which a worker's handlers run."""
    path = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
    (pid, *_) = path.read_text().split()
    return int(pid)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process for as long as the block lasts."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def is_idle(row: SimpleNamespace) -> bool:
    """Say whether nothing is left of a row's mark, lease and failures."""
    clean = (row.at, row.due, row.attempts, row.crashes, row.until)
    return not row.flag and clean == (0,) * 5 and row.lease is row.error is None
