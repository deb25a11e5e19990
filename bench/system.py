"""One system while it is measured: its database, its worker, its application."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil
import redis
from services import HERE, ROOT

BIN = Path(sys.executable).parent

_POLL_SECONDS = 0.005
_STARTING_POLL_SECONDS = 0.02
_PATIENCE_SECONDS = 45  # without one more user being welcomed: the others are lost
_ENDING_SECONDS = 15


class WorkLostError(Exception):
    """Users that nobody is going to welcome any more."""


@dataclass(frozen=True)
class Kind:
    """What is to be known of a system in order to run it.

    Args:
        name: in tables.
        module: has `install`, `enqueue` and `bulk`; see produce.py.
        workers: the commands of its worker, each started once.
        ends_by: the signal that ends them in order.
        part: it drains this part of the rows only, else it takes minutes.
        sqlite: its database is a SQLite file.
    """

    name: str
    module: str
    workers: tuple[str, ...]
    ends_by: signal.Signals = signal.SIGTERM
    part: float = 1
    sqlite: bool = False

    @property
    def slug(self) -> str:
        return "".join(c if c.isalnum() else "_" for c in self.name.lower())


class System:
    """A `Kind` on a database, and in a Redis namespace, of its own.

    Args:
        folder: where its logs go, and its SQLite file.
    """

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.workers: list[subprocess.Popen[bytes]] = []
        self.redis = redis.Redis.from_url(os.environ["REDIS_URL"])
        self.namespace = os.environ["REDIS_NAMESPACE"] + kind.slug.replace("_", "")
        self._database_name = f"bench_{os.getpid()}_{kind.slug}"

    def __enter__(self) -> Self:
        from servers import create_database  # noqa: PLC0415

        from models.connection import database_from_url  # noqa: PLC0415

        if self.kind.sqlite:
            url = f"sqlite:///{self.folder / self._database_name}.db"
        else:
            url = create_database(os.environ["DATABASE_URL"], self._database_name)
        self.database = database_from_url(url)
        self.environment = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(HERE),
            "DATABASE_URL": url,
            "REDIS_NAMESPACE": self.namespace,
        }
        return self

    def __exit__(self, *_: object) -> None:
        from servers import drop_database  # noqa: PLC0415

        self.stop()
        self.database.close()
        getattr(self.database, "close_idle", lambda: None)()
        if not self.kind.sqlite:
            drop_database(os.environ["DATABASE_URL"], self._database_name)
        for key in self.redis.scan_iter(f"*{self.namespace}*", count=1000):
            self.redis.delete(key)
        self.redis.close()

    def start(self) -> None:
        """Start the worker; it is not waited for."""
        for number, command in enumerate(self.kind.workers):
            with (self.folder / f"{self._database_name}-{number}.log").open(
                "ab"
            ) as log:
                process = subprocess.Popen(
                    command.split(),
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                    env=self.environment,
                    start_new_session=True,
                )
            self.workers.append(process)

    def log(self) -> str:
        """Return the end of what its worker has written."""
        files = sorted(self.folder.glob(f"{self._database_name}-*.log"))
        return "\n".join(file.read_text(errors="replace")[-2000:] for file in files)

    def stop(self) -> None:
        """End the worker, and whatever it has left behind."""
        for process in self.workers:
            process.send_signal(self.kind.ends_by)
        over = time.monotonic() + _ENDING_SECONDS
        for process in self.workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(over - time.monotonic(), 0))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.workers.clear()

    def cpu_seconds(self) -> float:
        """Return what the worker's processes have used of the processors so far."""
        return self._sum(lambda process: sum(process.cpu_times()[:2]))

    def memory_bytes(self) -> int:
        """Return what they have resident, shared pages counted for each."""
        return int(self._sum(lambda process: process.memory_info().rss))

    def enqueue(self, count: int, *, pause: float = 0) -> dict[str, Any]:
        """Sign users up, each in a transaction that enqueues; see produce.py."""
        return self.produce("enqueue", str(count), str(pause))

    def bulk(self, keys: Sequence[int]) -> dict[str, Any]:
        """Enqueue users that exist already, with as few calls as the system allows."""
        return self.produce("bulk", text=json.dumps(keys))

    def produce(
        self, *arguments: str, module: str = "", text: str = ""
    ) -> dict[str, Any]:
        """Run produce.py for the system's module, or another one."""
        done = subprocess.run(
            [
                sys.executable,
                str(HERE / "produce.py"),
                module or self.kind.module,
                *arguments,
            ],
            input=text,
            capture_output=True,
            text=True,
            env={**self.environment, "PYTHONPATH": f"{HERE}{os.pathsep}{ROOT}"},
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{self.kind.name} {arguments}: {done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement in the system's database."""
        cursor = self.database.execute_sql(statement)
        return cursor.fetchall() if cursor.description else []

    def fill(self, rows: int) -> list[int]:
        """Replace all users by so many, with nothing to do; return their keys."""
        numbers = (
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
            f" WHERE i < {rows}) SELECT 'user' || i || '@example.com' FROM n"
        )
        self.sql("DELETE FROM users" if self.kind.sqlite else "TRUNCATE users")
        self.sql(f"INSERT INTO users (email) {numbers}")
        if not self.kind.sqlite:
            self.sql("VACUUM ANALYZE users")
        return [key for (key,) in self.sql("SELECT id FROM users ORDER BY id")]

    def wait_for_first(self) -> None:
        """Wait until some user is welcomed."""
        patience = Patience(self)
        some = "SELECT 1 FROM users WHERE welcomed_at IS NOT NULL LIMIT 1"
        while not self.sql(some):
            time.sleep(_STARTING_POLL_SECONDS)
            patience.check()

    def wait(self) -> float:
        """Wait until every user is welcomed; return when that was seen, epoch seconds.

        Raises:
            WorkLostError: it is not going to happen.
        """
        patience = Patience(self)
        # Asking for one key is cheap, so the waiting costs those who work little.
        while missing := self._missing():
            while not self._is_welcomed(missing[0][0]):
                time.sleep(_POLL_SECONDS)
                patience.check()
        return time.time()

    def _missing(self) -> list[tuple[Any, ...]]:
        return self.sql(
            "SELECT id FROM users WHERE welcomed_at IS NULL ORDER BY id DESC LIMIT 1"
        )

    def _is_welcomed(self, key: int) -> bool:
        found = self.sql(f"SELECT welcomed_at FROM users WHERE id = {key}")
        return found[0][0] is not None

    def _sum(self, of: Callable[[psutil.Process], float]) -> float:
        total = 0.0
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += of(process)
        return total

    def _processes(self) -> Iterator[psutil.Process]:
        for worker in self.workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                main = psutil.Process(worker.pid)
                yield from (main, *main.children(recursive=True))


class Patience:
    """Ends the waiting for a system that gets no further."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._welcomed = -1
        self._look_again()

    def check(self) -> None:
        if time.monotonic() < self._next_look:
            return
        users, welcomed = self.system.sql(
            "SELECT count(*), count(welcomed_at) FROM users"
        )[0]
        if welcomed == self._welcomed:
            name = self.system.kind.name
            raise WorkLostError(f"{name}: {users - welcomed} of {users} users")
        self._welcomed = welcomed
        self._look_again()

    def _look_again(self) -> None:
        self._next_look = time.monotonic() + _PATIENCE_SECONDS
