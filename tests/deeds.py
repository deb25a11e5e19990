"""The handlers of an application that is in trouble.

Copied into the folder of a `Shop`, and run there by real workers. A row's name,
up to the dash, says what its handler does: fine, wait, exit … Files in the folder
tell the test what happened, and the handlers when to go on.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from peewee import OperationalError
from stock import Crate, Entry, Parcel, Task

from models import database
from worker import attempting, calling, handles, hands, kicking, mark_pending, taking

FOLDER = Path(__file__).parent
OPTIONS = {
    "wait": timedelta(seconds=float(os.environ.get("WAIT", "0.3"))),
    "max_crashes": int(os.environ.get("MAX_CRASHES", "3")),
}
if "TIME_LIMIT" in os.environ:
    OPTIONS["time_limit"] = timedelta(seconds=float(os.environ["TIME_LIMIT"]))


def attempt_of(row: Any) -> int:
    return int(getattr(row, row._meta.flags[0].attempts.name))


def note(word: str, row: Any) -> None:
    """Append a line of one write, so that processes do not mix theirs."""
    with (FOLDER / "notes").open("ab", buffering=0) as file:
        file.write(f"{word} {row.name} {attempt_of(row)} {os.getpid()}\n".encode())


def begun(word: str) -> set[str]:
    """Return the processes that began a row of that kind."""
    lines = (FOLDER / "notes").read_text().split("\n")[:-1]
    fields = [line.split() for line in lines]
    return {f[3] for f in fields if f[0] == "begin" and f[1].startswith(word)}


def wait(row: Any) -> None:
    """Wait until the test lets all go on, or this process."""
    while not any((FOLDER / f"go{who}").exists() for who in ("", f"-{os.getpid()}")):
        time.sleep(0.02)


def meet(row: Any) -> None:
    """Wait until two processes are at such rows."""
    while len(begun("meet")) < 2:
        time.sleep(0.02)


def wait_in_c(row: Any) -> None:
    """Wait, at the first attempt, in one call that Python cannot interrupt."""
    if attempt_of(row) > 1:
        return
    os.close(os.open(FOLDER / "pipe", os.O_RDONLY))


def mark_and_exit(row: Any) -> None:
    mark_pending(row, Task.needs_work)
    os._exit(4)


def loop(row: Any) -> None:
    if attempt_of(row) > 1:
        return
    while True:
        pass


def raises(error: BaseException) -> Callable[[Any], None]:
    def deed(row: Any) -> None:
        if attempt_of(row) == 1:
            raise error

    return deed


def close(row: Any) -> None:
    database.close()


def roll_back(row: Any) -> None:
    Entry.create(text=row.name)
    with suppress(OperationalError):  # SQLite's word for "there is nothing to"
        database.rollback()


def leave_open(row: Any) -> None:
    if attempt_of(row) == 1:
        database.begin()
        Entry.create(text=row.name)


def leave_atomic_open(row: Any) -> None:
    if attempt_of(row) == 1:
        database.atomic().__enter__()
        Entry.create(text=row.name)


def write_after_waiting(row: Any) -> None:
    wait(row)
    Entry.create(text=row.name)


def write_and_wait(row: Any) -> None:
    Entry.create(text=row.name)
    wait(row)


DEEDS: dict[str, Callable[[Any], object]] = {
    "fine": lambda row: None,
    "slow": lambda row: time.sleep(0.2),
    "wait": wait,
    "meet": meet,
    "stuck": wait_in_c,
    "loop": loop,
    "exit": lambda row: os._exit(3),
    "segfault": lambda row: ctypes.string_at(0),
    "kill": lambda row: os.kill(os.getpid(), signal.SIGKILL),
    "again": mark_and_exit,
    "memory": lambda row: bytearray(1 << 62) if row.runs == 0 else None,
    "system": raises(SystemExit(5)),
    "interrupt": raises(KeyboardInterrupt()),
    "generator": raises(GeneratorExit()),
    "close": close,
    "rollback": roll_back,
    "open": leave_open,
    "atomic": leave_atomic_open,
    "later": write_after_waiting,
    "written": write_and_wait,
}


def do(row: Any) -> None:
    """Do what the row's name says; only a finish makes `runs` grow in the row."""
    note("begin", row)
    DEEDS[row.name.partition("-")[0]](row)
    row.runs += 1
    note("end", row)


@handles(Task.needs_work, **OPTIONS)
def work(task: Task) -> None:
    task.done_by = os.getpid()
    do(task)


@handles(Parcel.needs_label, atomic=True, **OPTIONS)
def label(parcel: Parcel) -> None:
    do(parcel)


def pack(crate: Crate) -> None:
    note("begin", crate)
    DEEDS[crate.name.partition("-")[0]](crate)
    time.sleep(0.004)
    packed(crate)


def packed(crate: Crate) -> None:
    Entry.create(text=crate.name)
    crate.runs += 1
    note("end", crate)


def pack_all(crates: list[Crate]) -> None:
    for crate in crates:
        pack(crate)


async def pack_soon(crate: Crate) -> None:
    note("begin", crate)
    DEEDS[crate.name.partition("-")[0]](crate)
    await asyncio.sleep(0.05)
    packed(crate)


PACKING: dict[str, tuple[Callable[[Any], object], dict[str, Any]]] = {
    "plain": (pack, {}),
    "atomic": (pack, {"atomic": True}),
    "batch": (pack_all, {"batch": 40}),
    "atomic batch": (pack_all, {"batch": 40, "atomic": True}),
    "async": (pack_soon, {"concurrency": 20}),
}
packing, own_options = PACKING[os.environ.get("PACKING", "plain")]
handles(Crate.needs_packing, **OPTIONS, **own_options)(packing)


def die_at(point: str) -> None:
    """Let the process be killed at a step of the flow, before or after it."""
    when, step = point.split()
    owners, name = {
        "claim": ([taking], "claim"),
        "finish": ([attempting, calling, hands], "finish_all"),
        "kick": ([kicking.bells], "ring"),
    }[step]
    original: Any = getattr(owners[0], name)

    def dying(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if result:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    for owner in owners:
        setattr(owner, name, dying)


if "DIE" in os.environ and "dramatiq" in sys.argv[0]:
    die_at(os.environ["DIE"])
