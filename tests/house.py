"""A whole house for a test: database, Redis, real worker and clock processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import peewee
import redis
from waiting import wait_for

from models.connection import database_from_url

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


class House:
    """Starts commands as a user would, in an environment of its own.

    Args:
        folder: where logs go.
        environment: beside PATH; `DATABASE_URL` and `REDIS_URL` must be there.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.environment = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(folder),
            **environment,
        }
        self.database = database_from_url(environment["DATABASE_URL"])
        self.redis = redis.Redis.from_url(environment["REDIS_URL"])
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            end(process)
        self.redis.close()
        self.database.close()
        getattr(self.database, "close_idle", lambda: None)()

    def run(self, *command: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=self.environment,
            timeout=240,
            check=False,
        )

    def start(self, *command: str, ready: str = "") -> subprocess.Popen[bytes]:
        """Start a command; wait until its log says `ready`, once a process."""
        with self.log_file(command).open("ab") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=self.environment,
                start_new_session=True,
            )
        self.processes.append(process)
        if ready:
            wait_for(lambda: ready in self.log(*command), what=f"{command}: {ready}")
        return process

    @contextlib.contextmanager
    def talking(self, code: str) -> Iterator[Callable[[str], str]]:
        """Run Python that answers each line it is given, from its second answer on."""
        process = subprocess.Popen(
            ("python", "-c", code),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=self.environment,
            text=True,
        )

        def ask(line: str) -> str:
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            return answer()

        def answer() -> str:
            line = process.stdout.readline().strip()
            assert line, "it has ended"
            return line

        try:
            answer()
            yield ask
            process.communicate("\n", timeout=60)
        finally:
            process.kill()
            process.wait()

    def start_worker(
        self, *modules: str, processes: int = 2
    ) -> subprocess.Popen[bytes]:
        """Start `dramatiq worker` and wait until it is ready."""
        command = ("dramatiq", "worker", *modules, "--processes", str(processes))
        before = self.log(*command).count("ready for action")
        process = self.start(*command)
        wait_for(
            lambda: self.log(*command).count("ready for action") >= before + processes,
            what=f"{command} is not ready: {self.log(*command)[-2000:]}",
        )
        return process

    def log_file(self, command: tuple[str, ...]) -> Path:
        return self.folder / f"{'-'.join(command[:2])}.log"

    def log(self, *command: str) -> str:
        """What the command has written so far."""
        path = self.log_file(command)
        return path.read_text(errors="replace") if path.exists() else ""

    def keys(self) -> dict[str, int]:
        """What hangs in Redis: the length of each list, set and hash."""
        sizes = {
            "list": self.redis.llen,
            "hash": self.redis.hlen,
            "set": self.redis.scard,
            "zset": self.redis.zcard,
        }
        found = {}
        for key in self.redis.scan_iter(f"{self.namespace}:*"):
            kind = self.redis.type(key).decode()
            if kind in sizes:
                found[key.decode()] = sizes[kind](key)
        return found

    @property
    def namespace(self) -> str:
        return self.environment["REDIS_NAMESPACE"]


def end(process: subprocess.Popen[bytes], *, by: int = signal.SIGTERM) -> int:
    """Signal a main process and wait for its end; what is left of it is killed."""
    if process.poll() is None:
        process.send_signal(by)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def is_alive(database: peewee.Database) -> bool:
    """Say whether the database answers."""
    with database.connection_context():
        return bool(database.execute_sql("SELECT 1").fetchone())
