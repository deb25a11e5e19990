"""A flag's table, altered while others read and write it.

Each step leaves writers alone or is done in milliseconds. A lock that writers have to
queue behind is waited for a moment only, and asked for again after a pause. Each step
may find that it was taken before: who is stopped in the middle takes all of them again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import peewee
from peewee import Entity, Field

from .catalogues import Index, catalogue_of, sql_of
from .errors import FlagError
from .flags import PendingFlag
from .limiting import undone

logger = logging.getLogger("pending")

Fields: TypeAlias = Sequence["Field[Any]"]

_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.05, 1.0  # so long may a writer have to wait
_PAUSES = 10  # times as long: writers are held for a tenth of the time at most
_GIVE_UP_SECONDS = 600


class Altered:
    """The table of `flag`. What is to be added and is there is left as it is."""

    def __init__(self, flag: PendingFlag) -> None:
        self.flag, self.database = flag, flag.database
        self.catalogue = catalogue_of(flag)

    def missing(self) -> list[str]:
        """Return which columns the table lacks, by their suffix, in their order."""
        there = self.catalogue.columns()
        columns = self.flag.columns.items()
        return [suffix for suffix, f in columns if f.column_name not in there]

    def add_columns(self) -> None:
        """Add the columns that are missing; their defaults are constants.

        Raises:
            FlagError: the table's engine knows no transactions.
        """
        engine = self.catalogue.unfit_engine()
        if engine:
            raise FlagError(
                f"{self.flag.label}: its table's engine is {engine}, which knows no"
                f" transactions; ALTER TABLE {self.catalogue.name} ENGINE = InnoDB"
            )
        missing = [self.flag.columns[suffix] for suffix in self.missing()]
        if missing:
            self._add(missing)

    def lacks_check(self) -> bool:
        """Say whether there is no CHECK, and one could be added."""
        raise NotImplementedError

    def add_check(self) -> None:
        """Add the CHECK, where that needs no rewrite."""
        raise NotImplementedError

    def lacks_index(self) -> bool:
        """Say whether there is no index, or one that was not built to its end."""
        return not any(index.valid for index in self._indexes())

    def add_index(self) -> None:
        """Build the index; one that was not built to its end goes."""

        def build(patience: float) -> None:
            with self._unhurried(patience):
                if self.lacks_index():
                    for index in self._indexes():
                        self.database.execute_sql(self._dropping(index))
                    self.database.execute_sql(self._building())

        self._patiently(build)

    def drop_index(self) -> None:
        """Drop the index."""

        def drop(patience: float) -> None:
            with self._unhurried(patience):
                for index in self._indexes():
                    self.database.execute_sql(self._dropping(index))

        self._patiently(drop)

    def drop_columns(self, fields: Fields, *, after: Callable[[], None]) -> None:
        """Drop columns, and the index on any of them, if `after` raises nothing."""
        there = self.catalogue.columns()
        names = {field.column_name for field in fields}
        after()
        if names & {self.flag.column_name, self.flag.due.column_name}:
            self.drop_index()
        self._drop([field for field in fields if field.column_name in there])

    def _add(self, fields: Fields) -> None:
        raise NotImplementedError

    def _drop(self, fields: Fields) -> None:
        raise NotImplementedError

    def _building(self) -> str:
        index = self.flag.dialect.index(self.flag, self.flag.due)
        sql, _ = self.flag.model._schema._create_index(index, safe=False).query()
        return str(sql)

    def _dropping(self, index: Index) -> str:
        return f"DROP INDEX {self._quoted(index.name)}"

    def _indexes(self) -> list[Index]:
        return [i for i in self.catalogue.indexes() if self.catalogue.is_right(i)]

    def _quoted(self, name: str) -> str:
        return sql_of(self.flag, Entity(self.flag.model._meta.schema, name))

    def _defined(self, field: Field[Any], *, check: bool) -> str:
        context = self.database.get_sql_context()
        bare = field is self.flag and not check
        return sql_of(self.flag, (self.flag.unchecked if bare else field.ddl)(context))

    def _alter(self, *parts: str) -> None:
        def alter(patience: float) -> None:
            with self._hurried(patience):
                self.database.execute_sql(self._altering(*parts))

        self._patiently(alter)

    def _altering(self, *parts: str) -> str:
        return f"ALTER TABLE {self.catalogue.name} {', '.join(parts)}"

    @contextmanager
    def _hurried(self, seconds: float) -> Iterator[None]:
        """Let a statement wait for its lock no longer than `seconds`."""
        yield

    @contextmanager
    def _unhurried(self, seconds: float) -> Iterator[None]:
        """Let a statement that leaves writers alone take its time. Only a lock that is
        in their way is waited for no longer than `seconds`."""
        yield

    def _patiently(self, step: Callable[[float], None]) -> None:
        """Take a step; where a lock is refused again, with a little more patience.

        Raises:
            peewee.OperationalError: it was refused for ten minutes; or another error.
        """
        give_up, patience = time.monotonic() + _GIVE_UP_SECONDS, _SHORTEST_SECONDS
        while True:
            try:
                return step(patience)
            except peewee.OperationalError as error:
                busy = self.flag.dialect.is_busy(error)
                if not busy or time.monotonic() > give_up:
                    raise
            if patience == _SHORTEST_SECONDS:
                logger.warning(
                    "table in use, trying again table=%s", self.catalogue.table
                )
            time.sleep(_PAUSES * patience)
            patience = min(2 * patience, _LONGEST_SECONDS)


class AlteredSqlite(Altered):
    """SQLite: whoever writes waits for each statement, so there are many small ones. To
    drop a column the table is written anew."""

    def lacks_check(self) -> bool:
        return False  # it comes with the column or not at all

    def add_check(self) -> None:
        pass

    def _add(self, fields: Fields) -> None:
        for field in fields:
            self._alter(f"ADD COLUMN {self._defined(field, check=True)}")

    def _drop(self, fields: Fields) -> None:
        for field in reversed(fields):
            self._alter(f"DROP COLUMN {_name(self, field)}")


class AlteredPostgresql(Altered):
    """PostgreSQL: a CHECK that is proven later, an index that is built concurrently."""

    def lacks_check(self) -> bool:
        return not any(proven for _, proven in self._checks())

    def add_check(self) -> None:
        if not self._checks():
            self._alter(f"ADD {sql_of(self.flag, self.flag.check)} NOT VALID")
        for name, proven in self._checks():
            if not proven:
                proof = f"VALIDATE CONSTRAINT {sql_of(self.flag, Entity(name))}"
                with self._unhurried(0):
                    self.database.execute_sql(self._altering(proof))

    def drop_columns(self, fields: Fields, *, after: Callable[[], None]) -> None:
        there = self.catalogue.columns()
        names = [_name(self, f) for f in fields if f.column_name in there]
        lock = f"LOCK TABLE {self.catalogue.name} IN ACCESS EXCLUSIVE MODE"

        def drop(patience: float) -> None:
            with self._hurried(patience):
                self.database.execute_sql(lock)
                after()  # reads by the index, which goes with its columns
                drops = [f"DROP COLUMN {name}" for name in names]
                self.database.execute_sql(self._altering(*drops))

        if names:
            self._patiently(drop)

    def _add(self, fields: Fields) -> None:
        adds = [f"ADD COLUMN {self._defined(f, check=False)}" for f in fields]
        self._alter(*adds)

    def _building(self) -> str:
        return super()._building().replace("INDEX", "INDEX CONCURRENTLY", 1)

    def _dropping(self, index: Index) -> str:
        return super()._dropping(index).replace("INDEX", "INDEX CONCURRENTLY", 1)

    def _checks(self) -> list[tuple[str, bool]]:
        """Return the CHECKs of the flag's column alone: name, and whether proven."""
        return self.catalogue.rows(
            "SELECT conname, convalidated FROM pg_constraint WHERE contype = 'c' AND"
            " conrelid = to_regclass(%s) AND conkey = ARRAY(SELECT attnum FROM"
            " pg_attribute WHERE attrelid = conrelid AND attname = %s)",
            *(self.catalogue.name, self.flag.column_name),
        )

    @contextmanager
    def _hurried(self, seconds: float) -> Iterator[None]:
        with self.database.atomic():
            ms = round(seconds * 1000)
            self.database.execute_sql(f"SET LOCAL lock_timeout = {ms}")
            yield

    @contextmanager
    def _unhurried(self, seconds: float) -> Iterator[None]:
        # The locks of these statements are in nobody's way.
        self.database.execute_sql("SET lock_timeout = 0")
        self.database.execute_sql("SET statement_timeout = 0")
        try:
            yield
        finally:
            undone(self.database, "RESET lock_timeout")
            undone(self.database, "RESET statement_timeout")


class AlteredMysql(Altered):
    """MariaDB and MySQL: by no algorithm that copies the table and locks it."""

    def lacks_check(self) -> bool:
        return not self.catalogue.is_checked()

    def add_check(self) -> None:
        if self.lacks_check():
            # MySQL could only copy the table, and does without.
            checked = self._defined(self.flag, check=True)
            self._first_that_can([f"MODIFY {checked}", _INSTANT], [])

    def _add(self, fields: Fields) -> None:
        whole, bare = (
            [f"ADD COLUMN {self._defined(f, check=check)}" for f in fields]
            for check in (True, False)
        )
        ways = ([*whole, _INSTANT], [*bare, _INSTANT], [*bare, *_INPLACE])
        self._first_that_can(*ways)

    def _drop(self, fields: Fields) -> None:
        drops = [f"DROP COLUMN {_name(self, field)}" for field in fields]
        if drops:
            self._first_that_can([*drops, _INSTANT], [*drops, *_INPLACE])

    def _building(self) -> str:
        return " ".join((super()._building(), *_INPLACE))

    def _dropping(self, index: Index) -> str:
        name = sql_of(self.flag, Entity(index.name))
        return self._altering(f"DROP INDEX {name}", *_INPLACE)

    def _first_that_can(self, *ways: Sequence[str]) -> None:
        for way in ways:
            try:
                return self._alter(*way) if way else None
            except peewee.OperationalError as error:
                cannot = error.args[0] in _NOT_BY_THIS_ALGORITHM
                if not cannot or way is ways[-1]:
                    raise
        return None

    @contextmanager
    def _hurried(self, seconds: float) -> Iterator[None]:
        limit = "SET SESSION lock_wait_timeout ="
        self.database.execute_sql(f"{limit} {round(seconds)}")
        try:
            yield
        finally:
            undone(self.database, f"{limit} DEFAULT")

    _unhurried = _hurried


_INSTANT, _INPLACE = "ALGORITHM=INSTANT", ("ALGORITHM=INPLACE", "LOCK=NONE")
_NOT_BY_THIS_ALGORITHM = {1845, 1846}

_KINDS: dict[type[peewee.Database], type[Altered]] = {
    peewee.SqliteDatabase: AlteredSqlite,
    peewee.PostgresqlDatabase: AlteredPostgresql,
    peewee.MySQLDatabase: AlteredMysql,
}


def altered(flag: PendingFlag) -> Altered:
    """Return the flag's table, to be altered."""
    for kind, altered in _KINDS.items():
        if isinstance(flag.database, kind):
            return altered(flag)
    raise TypeError(f"flags do not work on {flag.database!r}")


def _name(table: Altered, field: Field[Any]) -> str:
    return sql_of(table.flag, Entity(field.column_name))
