"""The models and handlers of the soak's workers: `dramatiq worker soaking`.

What a handler does follows from the seed, its row, the mark and the attempt. Each
step is noted in a file of the process, one line and one write, so that the notes
outlive a kill -9; so is each claim, and each group of atomic rows that is undone.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import random
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from peewee import BigIntegerField, CharField, IntegerField, PeeweeException, TextField

from models import PendingFlag, PendingModel
from worker import GiveUp, RetryLater, attempting, handles, taking

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

    #: How many of a hundred runs go wrong.
    trouble = 13.0

    name = CharField(default="ordinary")
    marks = IntegerField(default=0)
    seen = IntegerField(default=0)
    dropped = IntegerField(default=0)
    finished = IntegerField(default=0)
    note = TextField(null=True)
    needs_work = PendingFlag()


class Exact(Work):
    """Work whose effects are in the database; `effects` counts them."""

    effects = IntegerField(default=0)


class Plain(Work):
    """Work that is done outside of a transaction, and takes its time."""


class Atomic(Exact):
    """Work that is done in a transaction."""


class Quick(Work):
    """Thousands of rows that are claimed and finished in large groups."""

    trouble = 0.5


class Grouped(Exact):
    """Thousands of rows that share transactions."""

    trouble = 0.5


class Batch(Work):
    """Thousands of rows that are handled in batches."""

    trouble = 0.5


class Whole(Exact):
    """Batches in transactions."""

    trouble = 0.5


class Async(Work):
    """Rows whose handlers wait together."""

    trouble = 2.0


class Calls(Work):
    """Batches whose handlers wait together."""

    trouble = 0.5


class Effect(PendingModel):
    """What one run of an `Exact` row has written, and for which mark."""

    kind = CharField(max_length=20)
    work = IntegerField(index=True)
    at = BigIntegerField()


#: Those of many rows, which are marked in bulk.
LARGE: tuple[type[Work], ...] = (Quick, Grouped, Batch, Whole, Async, Calls)
WORKS: tuple[type[Work], ...] = (Plain, Atomic, *LARGE)
EXACT: tuple[type[Exact], ...] = (Atomic, Grouped, Whole)
MODELS = (*WORKS, Effect)


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
    have_effect(row)
    time.sleep(chance.choice([0, 0, 0, chance.uniform(0, 0.05)]))
    meet(row, chance)


@handles(Quick.needs_work, **WAITS)
def do_quickly(row: Quick) -> None:
    note("start", row)
    chance = fate_of(row)
    time.sleep(0.2 if chance.random() < 0.003 else 0)
    meet(row, chance)


@handles(Grouped.needs_work, atomic=True, **WAITS)
def do_in_a_group(row: Grouped) -> None:
    note("start", row)
    have_effect(row)
    meet(row, fate_of(row))


@handles(Batch.needs_work, batch=200, **WAITS)
def do_batch(rows: list[Batch]) -> list[BaseException | None]:
    note_all("start", rows)
    time.sleep(fate_of(rows[0]).choice([0, 0.01, 0.1]))
    return meet_all(rows)


@handles(Whole.needs_work, batch=200, atomic=True, **WAITS)
def do_whole_batch(rows: list[Whole]) -> list[BaseException | None]:
    note_all("start", rows)
    done = [row for row in rows if end_of(row, fate_of(row)) == "end"]
    have_effect(*done)
    return meet_all(rows)


@handles(Async.needs_work, concurrency=60, **WAITS)
async def do_while_others_wait(row: Async) -> None:
    note("start", row)
    chance = fate_of(row)
    await asyncio.sleep(chance.choice([0, 0.02, chance.uniform(0, 0.3)]))
    meet(row, chance)


@handles(Calls.needs_work, batch=30, concurrency=6, **WAITS)
async def do_calls(rows: list[Calls]) -> list[BaseException | None]:
    note_all("start", rows)
    await asyncio.sleep(fate_of(rows[0]).choice([0, 0.05]))
    return meet_all(rows)


def fate_of(row: Work) -> random.Random:
    words = (SEED, row._meta.table_name, row._pk, row.marks, row.needs_work_attempts)
    return random.Random(repr(words))


def have_effect(*rows: Any) -> None:
    """Write what is to be there exactly once."""
    if not rows:
        return
    model = type(rows[0])
    kind, ids = model._meta.table_name, [row._pk for row in rows]
    effects = [{"kind": kind, "work": r._pk, "at": r.needs_work_at} for r in rows]
    try:
        Effect.insert_many(effects).execute()
        counted = model.update(effects=model.effects + 1)
        counted.where(model.id.in_(ids)).execute()
    except PeeweeException:
        note_all("refused", rows)
        raise


def end_of(row: Work, chance: random.Random) -> str:
    """Say how a run of the row is to end."""
    if row.needs_work_crashes < KILLS.get(row.name, 0):
        return "exit"
    fate = chance.random() * 100 / row.trouble
    if fate < 0.46:
        return "raised"
    if fate < 0.54:
        return "gave up"
    if fate < 1 and row.needs_work_error is None:  # not again and again
        return "later"
    return "end"


def meet(row: Work, chance: random.Random) -> None:
    """End the run as the row's fate is."""
    end = end_of(row, chance)
    note(end, row)
    if end == "exit":
        os._exit(9)
    if end == "raised":
        raise ValueError("as it happens")
    if end == "gave up":
        raise GiveUp("it is hopeless")
    if end == "later":
        raise RetryLater(timedelta(seconds=chance.uniform(0, 1)))
    row.seen = row.marks
    row.finished += 1


def meet_all(rows: Sequence[Any]) -> list[BaseException | None]:
    """End the runs of a batch: each as its row's fate is, or all in one failure."""
    if fate_of(rows[0]).random() > 0.98:
        note_all("raised", rows)
        raise ValueError("as it happens to all")
    return [met(row) for row in rows]


def met(row: Work) -> Exception | None:
    try:
        meet(row, fate_of(row))
    except Exception as error:  # noqa: BLE001 (returned)
        return error
    return None


def note_all(what: str, rows: Sequence[Work]) -> None:
    for row in rows:
        note(what, row)


def note(what: str, row: Work | None = None, **more: object) -> None:
    """Write one line: what happened, to which row, in which process and when."""
    line = {
        "what": what,
        "pid": os.getpid(),
        "parent": os.getppid(),
        "thread": threading.get_ident(),
        "time": time.monotonic(),
        **more,
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
            "token": row.needs_work_lease,
            "error": row.needs_work_error or "",
            "early": row.needs_work_due - round(time.time() * 1000),
        }
    os.write(_file(), f"{json.dumps(line)}\n".encode())


def note_claims() -> None:
    """Note each claim, before and after it; and each group that is undone, and why."""
    claim, in_one_transaction = taking.claim, attempting._in_one_transaction

    def claim_and_note(flag: PendingFlag, *, token: int, **options: Any) -> list[Any]:
        table = flag.model._meta.table_name
        note("claims", table=table, token=token)
        claims = claim(flag, token=token, **options)
        note(
            "claimed",
            table=table,
            token=token,
            ids=[claim.key[0] for claim in claims],
            suspects=[claim.key[0] for claim in claims if claim.crashes],
        )
        return claims

    def undo_and_note(handler: Any, hand: Any, calls: list[Any], *more: Any) -> float:
        try:
            return in_one_transaction(handler, hand, calls, *more)
        except BaseException as error:
            token = calls[0][0].token if calls else 0
            note("undone", token=token, why=type(error).__name__)
            raise

    taking.claim = claim_and_note
    attempting._in_one_transaction = undo_and_note


@functools.cache
def _file() -> int:
    path = Path(NOTES or os.devnull) / f"{os.getpid()}.notes"
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


if NOTES:
    note("boot")
    note_claims()
