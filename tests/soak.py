"""The soak: marks at random while everything is killed, hung and wiped at random.

    make soak                           a minute, another seed each time
    make soak SECONDS=600 SEED=42

On SQLite, PostgreSQL (POSTGRES_URL, or else an embedded one) and whatever MYSQL_URL
names, one after the other; they share the seconds. Each gets a database and a Redis
of its own, two `dramatiq worker soaking` with two processes each, and a clock, with
a lease of 2 s. The seed decides what is done in which order, and what becomes of
each run (`soaking`); when, the machine decides.

`soak_marks` is the application. It marks one row or many, by save, mark_pending and
SQL, idle, pending, running and parked ones; unmarks, deletes, saves stale rows, and
rolls back. `soak_faults` kills and freezes workers, deploys, kills, freezes and
empties Redis, kills the clock, cuts connections, locks rows, and marks rows that
kill their workers. Then all that is mended, and `soak_accounts` asks:

- Is every mark handled, unmarked, parked, deleted with its row, or due later?
- Had every further run of a mark a reason, in what its handler did or in a fault
  that hit just its process, or the database, just then?
- Did two runs of one row overlap without a freeze? Was one early?
- Did a mark run that was rolled back?
- Was a crash counted where none was, as by a deploy? Is an innocent row parked?
- Are the effects of atomic handlers there exactly once?
- Is a process, a lease, or a heap of messages left over?

Each "no" that should be a "yes" is printed with the row's history, and the status
is 1. Times are reported, not judged.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
DRIVER = HERE / "soak_driving.py"
sys.path[:0] = [str(HERE.parent)]

LEASE_SECONDS = 2
SWEEP_SECONDS = 0.5


def main(seconds: float, seed: str) -> int:
    """Soak on every kind of database; return the exit status."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, end_once)
    urls = {
        "sqlite": None,
        "postgresql": os.environ.get("POSTGRES_URL"),
        "mysql": os.environ.get("MYSQL_URL"),
    }
    if not urls["mysql"]:
        del urls["mysql"]
        say("MYSQL_URL names no server: without MySQL or MariaDB")
    say(f"SEED={seed} SECONDS={seconds:g} on {', '.join(urls)}")
    failed = [
        kind for kind, url in urls.items() if soak(kind, url, seconds / len(urls), seed)
    ]
    say(f"SEED={seed}: {'failed on ' + ', '.join(failed) if failed else 'all is well'}")
    return bool(failed)


def soak(kind: str, url: str | None, seconds: float, seed: str) -> int:
    """Soak on one database, in a process with an environment of its own."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="soak-"))
        (folder / "notes").mkdir()
        database_url = stack.enter_context(scratch_database(kind, url, folder))
        words = [str(seconds), seed, kind, str(folder)]
        command = [sys.executable, DRIVER, *words]
        names = ("PATH", "HOME", "LANG", "TMPDIR")
        environment = {
            **{name: os.environ[name] for name in names if name in os.environ},
            "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}",
            "DATABASE_URL": database_url,
            "REDIS_URL": f"unix://{folder / 'redis.sock'}",
            "REDIS_NAMESPACE": "soak",
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "SWEEP_SECONDS": str(SWEEP_SECONDS),
            "SOAK_SEED": seed,
        }
        driver = subprocess.Popen(command, env=environment)
        try:
            status = driver.wait()
        except BaseException:
            driver.terminate()
            driver.wait()
            raise
    if status:
        say(f"the logs are in {folder}")
    else:
        shutil.rmtree(folder)
    return status


@contextmanager
def scratch_database(kind: str, url: str | None, folder: Path) -> Iterator[str]:
    """Make an empty database and yield its URL; it is dropped afterwards."""
    from servers import (  # noqa: PLC0415 (imported where needed)
        create_database,
        drop_database,
        embedded_postgresql,
    )

    if kind == "sqlite":
        yield f"sqlite:///{folder / 'soak.db'}"
        return
    with ExitStack() as stack:
        if url is None:
            server = embedded_postgresql(folder)
            stack.callback(server.stop)
            url = server.url
        name = f"soak_{uuid.uuid4().hex[:12]}"
        stack.callback(drop_database, url, name)
        yield create_database(url, name)


def end_once(signum: int, frame: object) -> None:
    """End in good order, and let nothing interrupt that."""
    for other in (signal.SIGTERM, signal.SIGINT):
        signal.signal(other, signal.SIG_IGN)
    sys.exit(1)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    given = [word for word in sys.argv[1:] if word]
    sys.exit(main(float(given[0]), given[1] if given[1:] else uuid.uuid4().hex[:8]))
