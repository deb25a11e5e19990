"""Measures how long writers wait while a flag is added to their table, and dropped.

    python bench/migrating.py [--rows 5000000] [--only postgresql]

On PostgreSQL, on SQLite, and on MariaDB where MYSQL_URL names one. Four threads (on
SQLite one) update and insert rows, a transaction each, as fast as they can, and another
one reads in transactions of a second: the locks that a migration has to wait for. It
ends with 1 if a writer got an error. bench/README.md says what the figures mean.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from services import start_servers

WRITERS, QUIET_SECONDS, READING_SECONDS = 4, 5, 1
TABLE = "bench_migrated"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--only", default="", help="sqlite, postgresql or mysql")
    options = parser.parse_args()
    errors: list[str] = []
    print("| database | rows | what | took s | writes/s | longest wait ms |")
    print("|---|---|---|---|---|---|")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        start_servers(folder, stack, own_redis=False)
        urls = {
            "postgresql": os.environ["DATABASE_URL"],
            "mysql": os.environ.get("MYSQL_URL", ""),
            "sqlite": f"sqlite:///{folder / 'bench.db'}",
        }
        for kind, url in urls.items():
            if url and options.only in kind:
                measure(kind, url, options.rows, folder / kind, errors)
    for error in errors:
        print(f"a writer: {error}", file=sys.stderr)
    return 1 if errors else 0


def measure(kind: str, url: str, rows: int, folder: Path, errors: list[str]) -> None:
    from models import drafting, migrating  # noqa: PLC0415 (reads the environment)
    from models.connection import database_from_url  # noqa: PLC0415

    database = database_from_url(url)
    runner = migrating.runner_of_flags(database, folder)
    draft = drafting.addition(drafting.Names("needs_receipt", TABLE))
    runner.create(draft.name, draft.text)
    steps: dict[str, Callable[[], object]] = {
        "nothing else": lambda: time.sleep(QUIET_SECONDS),
        "add a flag": lambda: migrating.migrate_flags(database, folder),
        "drop it": lambda: migrating.roll_back_flags(database, folder, None),
    }
    with filled(database, rows):
        for what, step in steps.items():
            load = Load(database, rows)
            with load:
                took = seconds(step)
            errors += load.errors
            speed = len(load.waits) / took
            longest = max(load.waits) * 1000
            print(f"| {kind} | {rows:,} | {what} | {took:.1f} | {speed:.0f} |"
                  f" {longest:.0f} |", flush=True)  # fmt: skip
    with database.connection_context():
        runner.History.drop_table()
    getattr(database, "close_idle", lambda: None)()


@contextmanager
def filled(database: Any, rows: int) -> Iterator[None]:
    """Make a table of so many rows, of about 100 bytes each."""
    from peewee import CharField, IntegerField, Model  # noqa: PLC0415

    class Migrated(Model):
        customer = CharField(index=True)
        note = CharField(default="n" * 60)
        total = IntegerField(default=0)

        class Meta:
            table_name = TABLE

    with database.bind_ctx([Migrated]), database.connection_context():
        Migrated.drop_table()
        Migrated.create_table()
        few = min(rows, 1000)
        Migrated.insert_many([{"customer": f"{n}"} for n in range(few)]).execute()
        columns = [Migrated.customer, Migrated.note, Migrated.total]
        while (there := Migrated.select().count()) < rows:
            more = Migrated.select(*columns).limit(rows - there)
            Migrated.insert_from(more, columns).execute()
    try:
        yield
    finally:
        with database.bind_ctx([Migrated]), database.connection_context():
            Migrated.drop_table()


class Load:
    """Threads that write and read until the block is left.

    Attributes:
        waits: how long each write took, seconds.
        errors: what the database said against one.
    """

    def __init__(self, database: Any, rows: int) -> None:
        self.database, self.rows = database, rows
        self.waits: list[float] = []
        self.errors: list[str] = []
        self._over = threading.Event()
        # SQLite's writers starve each other in any case.
        writers = 1 if self._is_sqlite else WRITERS
        actions = [self._write] * writers + [self._read]
        self._threads = [
            threading.Thread(target=self._repeat, args=(act,)) for act in actions
        ]

    @property
    def _is_sqlite(self) -> bool:
        return "Sqlite" in type(self.database).__name__

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, action: Callable[[], None]) -> None:
        with self.database.connection_context():
            while not self._over.is_set():
                try:
                    action()
                except Exception as error:  # noqa: BLE001 (of any kind: it is counted)
                    self.errors.append(str(error))

    def _write(self) -> None:
        mark = "?" if self._is_sqlite else "%s"
        update = f"UPDATE {TABLE} SET total = total + 1 WHERE id = {mark}"
        insert = f"INSERT INTO {TABLE} (customer, note, total) VALUES ('new', '', 0)"

        def write() -> None:
            with self.database.atomic():
                key = random.randint(1, self.rows)
                self.database.execute_sql(update, (key,))
                if key % 10 == 0:
                    self.database.execute_sql(insert)

        self.waits.append(seconds(write))

    def _read(self) -> None:
        with self.database.atomic():
            self.database.execute_sql(f"SELECT total FROM {TABLE} LIMIT 1").fetchall()
            if not self._is_sqlite:  # there it would lock all
                self._over.wait(READING_SECONDS)
        self._over.wait(READING_SECONDS)


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
