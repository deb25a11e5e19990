"""The application of the soak: it marks rows in every way there is.

Whatever it does to a row it counts in that row, in the same transaction: a
connection that was cut may have committed or not, and the count is right.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import peewee
from soaking import LARGE, MODELS, WORKS, Work

import models
from models import NEVER, database
from models.connection import connected
from worker import mark_pending, unmark

MOST_ROWS = 300
MANY_ROWS = 2_000  # of each large table, from the start
CUT = (peewee.OperationalError, peewee.InterfaceError)

Model = type[Work]


class Application:
    """Acts at random, as `chance` will have it.

    Attributes:
        done: what was done, and how often.
        deleted: the keys of the rows that were, or may have been, deleted; and when.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.done: Counter[str] = Counter()
        self.deleted: dict[tuple[str, int], float] = {}
        self._ids: dict[Model, list[int]] = {model: [] for model in WORKS}
        self._stale: list[Any] = []
        self._acts: dict[Callable[[Model], object], int] = {
            self.create: 15,
            self.create_unsaved: 5,
            self.save: 15,
            self.mark: 20,
            self.mark_later: 8,
            self.mark_for_tomorrow: 1,
            self.mark_many: 3,
            self.mark_all: 1,
            self.mark_by_sql: 12,
            self.mark_running: 15,
            self.mark_parked: 2,
            self.unmark: 3,
            self.roll_back: 5,
            self.delete: 3,
            self.keep_for_later: 5,
            self.save_stale: 5,
        }

    def prepare(self) -> None:
        """Make the tables, and the rows that are special."""
        with connected(database):
            example = [models.User] if hasattr(models, "User") else []
            database.create_tables([*MODELS, *example])  # workers look there too
            for model in self._ids:
                names = ["always", "once", "once", "twice", "never", "never"]
                for name in names:
                    model.create(name=name)
                if model in LARGE:
                    self._create_many(model)

    def act(self) -> None:
        """Do one thing, to one of the tables."""
        (act,) = self.chance.choices([*self._acts], [*self._acts.values()])
        model = self.chance.choice([*self._ids])
        most = MOST_ROWS + (MANY_ROWS if model in LARGE else 0)
        if act == self.create and len(self._ids[model]) > most:
            act = self.delete
        self.do(act, model)

    def do(self, act: Callable[[Model], object], model: Model) -> None:
        """Do it; a connection may be cut, and then it was done or not."""
        try:
            with connected(database):
                act(model)
            self.done[act.__name__] += 1
        except CUT:
            self.done["cut off"] += 1

    def create(self, model: Model) -> None:
        self._ids[model].append(model.create(marks=1, needs_work=True).id)

    def create_unsaved(self, model: Model) -> None:
        row = model(marks=1)
        mark_pending(row, model.needs_work)
        self._ids[model].append(row.id)

    def save(self, model: Model) -> None:
        for row in self._one(model):
            row.needs_work, row.marks = True, model.marks + 1
            row.save()

    def mark(self, model: Model, **options: Any) -> None:
        for row in self._one(model):
            self._mark(row, **options)

    def mark_later(self, model: Model) -> None:
        self.mark(model, delay=timedelta(seconds=self.chance.uniform(0, 3)))

    def mark_for_tomorrow(self, model: Model) -> None:
        self.mark(model, delay=timedelta(days=1))

    def mark_many(self, model: Model) -> None:
        ids = self._ids[model]
        some = self.chance.sample(ids, len(ids) // 3)
        self._mark_where(model, model.id.in_(some))

    def mark_all(self, model: Model) -> None:
        """Thousands of a large table."""
        self._mark_where(model, model.name == "ordinary")

    def mark_by_sql(self, model: Model) -> None:
        """On an idle row, raw SQL need only set the flag."""
        if not self._ids[model]:
            return
        database.execute_sql(
            f"UPDATE {model._meta.table_name}"
            " SET needs_work = TRUE, marks = marks + 1"
            " WHERE NOT needs_work AND needs_work_lease IS NULL"
            f" AND id = {database.param}",
            (self.chance.choice(self._ids[model]),),
        )

    def mark_running(self, model: Model) -> None:
        running = model.needs_work.lease.is_null(False) & (model.name == "ordinary")
        for row in model.select().where(running).limit(3):
            self._mark(row)

    def mark_parked(self, model: Model) -> None:
        parked = (model.needs_work.due == NEVER) & (model.name == "ordinary")
        for row in model.select().where(parked).limit(1):
            self._mark(row)

    def mark_named(self, name: str) -> None:
        """Mark one of the special rows."""
        model = self.chance.choice([*self._ids])

        def mark_special(model: Model) -> None:
            rows = model.select().where(model.name == name).order_by(model.id)
            self._mark(self.chance.choice(rows))

        self.do(mark_special, model)

    def unmark(self, model: Model) -> None:
        for row in self._one(model):
            with database.atomic():
                same = model.id == row.id
                model.update(dropped=model.marks).where(same).execute()
                unmark(row, model.needs_work)

    def roll_back(self, model: Model) -> None:
        with database.atomic() as transaction:
            rows = model.select().where(model.name == "never")
            self._mark(self.chance.choice(rows))
            model.create(name="ghost", marks=1, needs_work=True)
            if self.chance.random() < 0.3:
                time.sleep(0.1)
            transaction.rollback()

    def delete(self, model: Model) -> None:
        # Not the newest: SQLite would give its key to the next one.
        for row in self._one(model, self._ids[model][:-1]):
            self.deleted[model._meta.table_name, row.id] = time.monotonic()
            row.delete_instance()
            self._ids[model].remove(row.id)

    def keep_for_later(self, model: Model) -> None:
        self._stale += self._one(model)

    def save_stale(self, model: Model) -> None:
        """Save a row that was loaded long ago; it says nothing about the flag."""
        if self._stale:
            row = self._stale.pop(self.chance.randrange(len(self._stale)))
            row.note = f"saved at {time.time():.0f}"
            row.save()

    def hold(self, seconds: float, *, commit: bool) -> threading.Thread:
        """Mark three rows in a transaction that takes its time, in a thread."""
        model = self.chance.choice([*self._ids])
        ids = self.chance.sample(self._ids[model], min(3, len(self._ids[model])))

        def hold_rows(model: Model) -> None:
            with database.atomic() as transaction:
                for row in model.select().where(model.id.in_(sorted(ids))):
                    self._mark(row)
                time.sleep(seconds)
                if not commit:
                    transaction.rollback()

        thread = threading.Thread(target=self.do, args=(hold_rows, model))
        thread.start()
        return thread

    def _one(self, model: Model, ids: list[int] | None = None) -> list[Any]:
        """One of the ordinary rows, or of those with `ids`; or none."""
        known = self._ids[model] if ids is None else ids
        return list(model.select().where(model.id == self.chance.choice(known or [0])))

    def _create_many(self, model: Model) -> None:
        model.insert_many([{"name": "ordinary"}] * MANY_ROWS).execute()
        ordinary = model.select(model.id).where(model.name == "ordinary")
        self._ids[model] = sorted(row.id for row in ordinary)

    def _mark_where(self, model: Model, condition: Any) -> None:
        with database.atomic():
            model.update(marks=model.marks + 1).where(condition).execute()
            mark_pending(model.select().where(condition), model.needs_work)

    def _mark(self, row: Work, **options: Any) -> None:
        model = type(row)
        with database.atomic():
            model.update(marks=model.marks + 1).where(model.id == row._pk).execute()
            mark_pending(row, model.needs_work, **options)
