"""The models and handlers of the soak's workers: `dramatiq worker soaking`.

What a handler does follows from the seed, its row, the mark and the attempt. Each
step is noted in a file of the process, one line and one write, so that the notes
outlive a kill -9.
"""

from __future__ import annotations

import functools
import json
import os
import random
import threading
import time
from datetime import timedelta
from pathlib import Path

from peewee import BigIntegerField, CharField, IntegerField, PeeweeException, TextField

from models import PendingFlag, PendingModel
from worker import GiveUp, RetryLater, handles

SEED = os.environ["SOAK_SEED"]
NOTES = os.environ.get("SOAK_NOTES")  # where workers write; not named to the driver

#: How many workers a row kills before it lets itself be done.
KILLS = {"once": 1, "twice": 2, "always": 1_000_000}

WAITS = {
    "wait": timedelta(milliseconds=200),
    "longest_wait": timedelta(seconds=1),
}


class Work(PendingModel):
    """Work that counts its marks.

    Attributes:
        name: "ordinary", one of `KILLS`, "never" (marked only by transactions that
            roll back) or "ghost" (inserted by such).
        marks: how often it was marked, counted in the transaction of the mark.
        seen: what `marks` was when the last finished run was claimed.
        dropped: what `marks` was when it was unmarked.
        finished: how many runs were finished.
        note: what others than the handler write.
    """

    name = CharField(default="ordinary")
    marks = IntegerField(default=0)
    seen = IntegerField(default=0)
    dropped = IntegerField(default=0)
    finished = IntegerField(default=0)
    note = TextField(null=True)
    needs_work = PendingFlag()


class Plain(Work):
    """Work that is done outside of a transaction."""


class Atomic(Work):
    """Work whose effects are in the database; `effects` counts them."""

    effects = IntegerField(default=0)


class Effect(PendingModel):
    """What one run of an `Atomic` row has written, and for which mark."""

    work = IntegerField(index=True)
    at = BigIntegerField()


MODELS = (Plain, Atomic, Effect)


@handles(Plain.needs_work, **WAITS)
def do_plain(row: Plain) -> None:
    note("start", row)
    chance = fate_of(row)
    time.sleep(chance.choice([0, 0.02, chance.uniform(0, 0.3)]))
    meet(row, chance)


@handles(Atomic.needs_work, atomic=True, **WAITS)
def do_atomic(row: Atomic) -> None:
    note("start", row)
    chance = fate_of(row)
    time.sleep(chance.choice([0, 0, 0, chance.uniform(0, 0.05)]))
    try:
        Effect.create(work=row._pk, at=row.needs_work_at)
        Atomic.update(effects=Atomic.effects + 1).where(Atomic.id == row._pk).execute()
    except PeeweeException:
        note("refused", row)
        raise
    time.sleep(chance.choice([0, 0, 0, chance.uniform(0, 0.05)]))
    meet(row, chance)


def fate_of(row: Work) -> random.Random:
    return random.Random(f"{SEED} {row._pk} {row.marks} {row.needs_work_attempts}")


def meet(row: Work, chance: random.Random) -> None:
    """End the run as the row's fate is."""
    if row.needs_work_crashes < KILLS.get(row.name, 0):
        note("exit", row)
        os._exit(9)
    fate = chance.random()
    if fate < 0.06:
        note("raised", row)
        raise ValueError("as it happens")
    if fate < 0.07:
        note("gave up", row)
        raise GiveUp("it is hopeless")
    if fate < 0.13 and row.needs_work_error is None:  # not again and again
        note("later", row)
        raise RetryLater(timedelta(seconds=chance.uniform(0, 1)))
    row.seen = row.marks
    row.finished += 1
    note("end", row)


def note(what: str, row: Work | None = None) -> None:
    """Write one line: what happened, to which row, in which process and when."""
    line = {
        "what": what,
        "pid": os.getpid(),
        "parent": os.getppid(),
        "thread": threading.get_ident(),
        "time": time.monotonic(),
    }
    if row is not None:
        line |= {
            "table": row._meta.table_name,
            "id": row._pk,
            "name": row.name,
            "marks": row.marks,
            "at": row.needs_work_at,
            "attempt": row.needs_work_attempts,
            "crashes": row.needs_work_crashes,
            "error": row.needs_work_error or "",
            "early": row.needs_work_due - round(time.time() * 1000),
        }
    os.write(_file(), f"{json.dumps(line)}\n".encode())


@functools.cache
def _file() -> int:
    path = Path(NOTES or os.devnull) / f"{os.getpid()}.notes"
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


if NOTES:
    note("boot")
