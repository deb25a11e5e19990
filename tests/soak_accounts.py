"""The soak's accounts: every mark, every run and every fault, put side by side.

A run that was not the last one of its mark needs a reason of its own: what its
handler did, or a fault that hit just this process, or the database, just then.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peewee import SQL, SqliteDatabase, fn
from soak_faults import LEASE_SECONDS, Faults
from soaking import EXACT, WORKS, Effect, Whole

from models import NEVER, database

_SLACK = 1.0  # seconds, between a fault and what is noted of it
_EARLY_MS = 5

_FACTS = ("name", "marks", "at", "attempt", "crashes", "token", "error", "early")

Key = tuple[str, int]


@dataclass(slots=True)
class Run:
    """One call of a handler: when it started, in which process, and how it ended.

    `how` is "end", "raised", "later", "gave up", "exit", "refused" (by the
    database), or "" if nothing was noted: then the process died; `over` is when.
    """

    key: Key
    name: str
    marks: int
    at: int
    attempt: int
    crashes: int
    token: int
    error: str
    early: int
    pid: int
    start: float
    over: float
    how: str = ""

    def __str__(self) -> str:
        return (
            f"{self.start:.3f} … {self.over:.3f} pid={self.pid} at={self.at}"
            f" marks={self.marks} attempt={self.attempt} crashes={self.crashes}"
            f" token={self.token % 10_000} {self.how or 'cut off'}"
        )


@dataclass(slots=True, eq=False)
class Taking:
    """A claim: when its statement was sent, and what came of it.

    Attributes:
        answered: infinite if it never was: perhaps it took rows, perhaps not.
    """

    table: str
    pid: int
    asked: float
    answered: float = math.inf
    ids: frozenset[int] = frozenset()
    suspects: frozenset[int] = frozenset()


class Accounts:
    """What the notes and the tables say, and whether it can be true.

    Args:
        notes: the folder of the workers' notes.
    """

    def __init__(self, notes: Path, faults: Faults) -> None:
        self.application, self.faults = faults.application, faults
        self.deaths = dict(faults.killed)
        self.parents: dict[int, int] = {}
        self.takings: dict[int, Taking] = {}  # by token
        self.undone: defaultdict[int, list[float]] = defaultdict(list)  # by token
        self.reasons: Counter[str] = Counter()
        self.runs = sorted(self._read(notes), key=lambda run: run.start)
        self.unanswered = [
            one for one in self.takings.values() if one.answered - one.asked > _SLACK
        ]
        self.by_row: defaultdict[Key, list[Run]] = defaultdict(list)
        for run in self.runs:
            self.by_row[run.key].append(run)
        self.rows = {
            (model._meta.table_name, row._pk): row
            for model in WORKS
            for row in model.select()
        }
        self.violations: list[str] = [*faults.complaints]

    def check(self) -> list[str]:
        """Return what cannot be true, each with the row's history."""
        for row in self.rows.items():
            self._check_row(*row)
        for key, runs in self.by_row.items():
            self._check_runs(key, runs)
        self._check_missing_rows()
        self._check_crashes()
        self._check_suspects()
        self._check_effects()
        return self.violations

    def table(self) -> Iterator[tuple[str, Any]]:
        """What happened, and how often."""
        states = Counter(_state(row) for row in self.rows.values())
        how = Counter(run.how for run in self.runs)
        yield "rows", len(self.rows)
        yield (
            "marks (of rows that are still there)",
            sum(row.marks for row in self.rows.values()),
        )
        yield "runs", len(self.runs)
        yield "  ended", how["end"]
        yield "  raised", how["raised"]
        yield "  put off", how["later"]
        yield "  gave up", how["gave up"]
        yield "  refused by the database", how["refused"]
        yield (
            "  repeated after a deadlock",
            sum("deadlock" in run.error.lower() for run in self.runs),
        )
        for why, count in self.reasons.items():
            yield f"groups undone by {why}", count
        yield "  killed their process", how["exit"]
        yield "  cut off with their process", how[""]
        yield (
            "runs of suspects",
            sum(run.crashes > 0 for run in self.runs),
        )
        for state in ("parked", "parked by crashes", "scheduled", "unmarked"):
            yield f"rows {state}", states[state]
        yield "rows deleted", len(self.application.deleted)
        yield "rows lost", states["lost"]
        worst = max(self._recoveries(), default=0)
        yield "longest from a crash to the next attempt", f"{worst:.1f} s"
        for what, count in sorted(self.application.done.items()):
            yield f"act: {what.replace('_', ' ')}", count
        for kind, count in sorted(self.faults.counts.items()):
            yield f"fault: {kind}", count

    def _read(self, notes: Path) -> Iterator[Run]:
        for path in notes.iterdir():
            running: dict[tuple[Key, int], Run] = {}
            for text in path.read_text().splitlines():
                line = json.loads(text)
                pid, what, now = line["pid"], line["what"], line["time"]
                if "id" not in line:
                    self._read_other(line)
                    continue
                key = (line["table"], line["id"])
                if what == "start":
                    facts = {name: line[name] for name in _FACTS}
                    run = Run(key=key, pid=pid, start=now, over=now, **facts)
                    running[key, run.token] = run
                    yield run
                else:
                    run = running.pop((key, line["token"]))
                    run.how, run.over = what, now
                    if what == "exit":
                        self.deaths[pid] = now
            for run in running.values():
                run.over = self.deaths.get(run.pid, run.start)

    def _read_other(self, line: dict[str, Any]) -> None:
        token = line.get("token", 0)
        if line["what"] == "boot":
            self.parents[line["pid"]] = line["parent"]
        elif line["what"] == "undone":
            self.undone[token].append(line["time"])
            self.reasons[line["why"]] += 1
        elif line["what"] == "claims":
            self.takings[token] = Taking(line["table"], line["pid"], line["time"])
        else:
            taking = self.takings[token]
            taking.answered = line["time"]
            taking.ids = frozenset(line["ids"])
            taking.suspects = frozenset(line["suspects"])

    def _check_row(self, key: Key, row: Any) -> None:
        state, runs = _state(row), self.by_row[key]
        if state == "lost":
            self._complain(key, "a mark is lost")
        if state == "waiting":
            self._complain(key, "is due, and nobody does it")
        if row.name == "ghost" or (row.name == "never" and (runs or row.marks)):
            self._complain(key, "was marked only in transactions that rolled back")
        if not row.needs_work and not _is_clean(row):
            self._complain(key, "is idle, but not clean")
        if len({run.at for run in runs}) > row.marks:
            self._complain(key, "was run for more marks than there were")
        if row.finished > sum(run.how == "end" for run in runs):
            self._complain(key, "was finished more often than it was done")
        if state == "parked by crashes" and not self._may_have_crashed(row, runs):
            self._complain(key, "is innocent, but parked")

    def _check_runs(self, key: Key, runs: list[Run]) -> None:
        for run in runs:
            if run.early > _EARLY_MS:
                self._complain(key, f"was run {run.early} ms early")
            if run.name in {"never", "ghost"}:
                self._complain(key, "was run, but its mark was rolled back")
        for run, following in itertools.pairwise(runs):
            pair = f"{run} | {following}"
            if self._overlap(run, following):
                self._complain(key, f"two runs overlap: {pair}")
            if run.at == following.at and not self._may_repeat(run, following):
                self._complain(key, f"was run again: {pair}")

    def _overlap(self, run: Run, following: Run) -> bool:
        if following.start >= run.over:
            return False
        return not (
            self._froze(run, following.start) or self._froze(following, run.over)
        )

    def _check_missing_rows(self) -> None:
        for key, runs in self.by_row.items():
            gone = key not in self.rows
            if gone and runs and key not in self.application.deleted:
                self._complain(key, "is gone, but was not deleted")

    def _check_crashes(self) -> None:
        """Each row whose lease was found was left by a process that was hit."""
        last: dict[Key, Taking] = {}
        for taking in sorted(self.takings.values(), key=lambda one: one.answered):
            for own in taking.ids:
                key = (taking.table, own)
                before = last.get(key)
                if own in taking.suspects and not self._was_left(before, taking):
                    self._complain(key, f"no crash, but counted: {before} | {taking}")
                last[key] = taking

    def _was_left(self, before: Taking | None, taking: Taking) -> bool:
        """Whether a fault left a row, last claimed by `before`, to `taking`."""
        if before and self._was_hit(before, taking.answered):
            return True
        return any(
            one.table == taking.table and self._was_hit(one, taking.answered)
            for one in self.unanswered
            if one.asked < taking.answered
        )

    def _was_hit(self, taking: Taking, until: float) -> bool:
        """Whether its process died, froze or lost its connection after the claim."""
        since = taking.asked
        died = self.deaths.get(taking.pid, math.inf) <= until
        frozen = self._frozen(taking.pid)
        froze = any(begun <= until and end >= since for begun, end in frozen)
        return died or froze or self._was_cut(since, until)

    def _was_cut(self, since: float, until: float) -> bool:
        return any(since - _SLACK <= cut <= until for cut in self.faults.cuts)

    def _check_suspects(self) -> None:
        """Rows that may have killed a process: one at a time in each."""
        by_pid = defaultdict(list)
        for run in self.runs:
            if run.crashes:
                by_pid[run.pid].append(run)
        for runs in by_pid.values():
            for run, following in itertools.pairwise(runs):
                if following.start < run.over:
                    self._complain(run.key, f"suspects together: {run} | {following}")

    def _check_effects(self) -> None:
        work = (Effect.kind, Effect.work)
        marks = Effect.select(*work, Effect.at, fn.COUNT(SQL("*")))
        for *key, at, count in marks.group_by(*work, Effect.at).tuples():
            if count > 1:
                self._complain((*key,), f"{count} times the effects of mark {at}")
        effects = {
            (*key,): count
            for *key, count in Effect.select(*work, fn.COUNT(SQL("*")))
            .group_by(*work)
            .tuples()
        }
        for model in EXACT:
            for row in model.select():
                key = (model._meta.table_name, row.id)
                counts = (effects.get(key, 0), row.effects, row.finished)
                if len(set(counts)) > 1:
                    self._complain(key, f"effects and runs differ: {counts}")

    def _may_repeat(self, run: Run, following: Run) -> bool:
        if run.how in {"raised", "later"} or self._was_undone(run, following):
            return True
        if run.token == following.token:
            return False
        if self._crashed(run, following):
            return True
        if self._froze(following, following.start):  # it was claimed first
            return True
        if run.how == "":  # told to end twice, it ended at once and gave back
            return self._was_told(run)
        return (
            "deadlock" in following.error.lower()  # with a mark: it was rolled back
            or self._was_cut(run.start, following.start)
            or self._lost_another(run)
        )

    def _was_undone(self, run: Run, following: Run) -> bool:
        """Whether its group was rolled back: then it is tried alone, or given back."""
        undone = self.undone.get(run.token, [])
        return any(run.start <= one <= following.start for one in undone)

    def _lost_another(self, run: Run) -> bool:
        """Whether a row of its batch was deleted, so that all was rolled back."""
        if run.key[0] != Whole._meta.table_name:
            return False
        batch = self.takings[run.token].ids
        deleted = self.application.deleted
        times = [
            deleted[run.key[0], own] for own in batch if (run.key[0], own) in deleted
        ]
        return any(run.start - _SLACK <= time <= run.over + _SLACK for time in times)

    def _crashed(self, run: Run, following: Run) -> bool:
        """Whether a fault kept the run of this process from being recorded.

        A death is noted before the signal is sent, so that runs may begin after it.
        """
        died = self.deaths.get(run.pid, math.inf) <= following.start
        return died or self._froze(run, following.start)

    def _froze(self, run: Run, until: float) -> bool:
        """Whether its process was frozen after it had claimed, or while it ran."""
        since = run.start - LEASE_SECONDS
        frozen = self._frozen(run.pid)
        return any(begun <= until and end >= since for begun, end in frozen)

    def _frozen(self, pid: int) -> list[tuple[float, float]]:
        """When the process was frozen, or one that may have had all of SQLite locked:
        then nobody renews a lease."""
        if isinstance(database, SqliteDatabase):
            return list(itertools.chain.from_iterable(self.faults.frozen.values()))
        return self.faults.frozen.get(pid, [])

    def _was_told(self, run: Run) -> bool:
        parent = self.parents.get(run.pid, 0)
        return parent in self.faults.told or parent in self.deaths

    def _may_have_crashed(self, row: Any, runs: list[Run]) -> bool:
        """Whether enough happened since its last end to take it for guilty."""
        if row.name == "always":
            return True
        ends = [run.over for run in runs if run.how in {"end", "raised", "later"}]
        since = [run for run in runs if run.start > max(ends, default=0)]
        begun = since[0].start - LEASE_SECONDS if since else 0
        frozen = itertools.chain.from_iterable(self.faults.frozen.values())
        hits = [*self.deaths.values(), *(start for start, _ in frozen)]
        return sum(hit >= begun for hit in hits) >= 3

    def _recoveries(self) -> Iterator[float]:
        for runs in self.by_row.values():
            for run, following in itertools.pairwise(runs):
                death = self.deaths.get(run.pid, math.inf)
                died = run.how in {"", "exit"} and death <= following.start
                if died and run.at == following.at:
                    yield following.start - death

    def _complain(self, key: Key, what: str) -> None:
        row, runs = self.rows.get(key), self.by_row[key]
        data = {**row.__dict__, **row.__data__} if row else "deleted"
        history = "\n".join(f"    {run}" for run in runs[-20:])
        hits = "\n".join(f"    {hit}" for hit in self._hits(runs[-20:]))
        self.violations.append(f"{key} {what}\n    {data}\n{history}\n{hits}")

    def _hits(self, runs: list[Run]) -> Iterator[str]:
        for pid in dict.fromkeys(run.pid for run in runs):
            parent = self.parents.get(pid, 0)
            for name, times in (
                ("died", self.deaths.get(pid)),
                ("frozen", self.faults.frozen.get(pid)),
                ("main told to stop", self.faults.told.get(parent)),
                ("main died", self.deaths.get(parent)),
            ):
                if times:
                    yield f"pid={pid} {name} {times}"
        if runs:
            begun, over = runs[0].start - 5, runs[-1].over + 5
            yield f"cuts {[round(t, 3) for t in self.faults.cuts if begun < t < over]}"


def _is_clean(row: Any) -> bool:
    """Whether an idle row's companions are as they were at first.

    If it was unmarked while a worker held it that then died, nobody claims it and so
    nobody lets it go: the lease and what it counts stay until the next mark.
    """
    companions = type(row).needs_work.companions
    values = {name: getattr(row, field.name) for name, field in companions.items()}
    if row.dropped == row.marks and values["until"] < time.time() * 1000:
        for name in ("attempts", "crashes", "until", "lease"):
            del values[name]
    return not any(values.values())


def _state(row: Any) -> str:
    """How the row stands when all is over."""
    soon = (time.time() + 3600) * 1000
    if row.needs_work:
        if row.needs_work_due != NEVER:
            return "scheduled" if row.needs_work_due > soon else "waiting"
        by_crashes = "workers died" in (row.needs_work_error or "")
        return "parked by crashes" if by_crashes else "parked"
    if row.seen == row.marks:
        return "done"
    return "unmarked" if row.dropped == row.marks else "lost"
