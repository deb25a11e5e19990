"""What every database can say of a flag's table, and the words for what is found."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import peewee
from peewee import ModelUpdate, Node

from ..columns import NEVER
from ..dialects import dialect_of
from ..flags import PendingFlag


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of `subject`, and what mends it."""

    level: Level
    subject: str
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the database has it."""

    type: str
    nullable: bool
    default: str | None


@dataclass(frozen=True, slots=True)
class Index:
    """An index as the database has it; `only` is the condition of a partial one."""

    name: str
    columns: tuple[str, ...]
    only: str | None
    valid: bool = True


class Catalogue:
    """What a database says of the table of a flag."""

    def __init__(self, flag: PendingFlag) -> None:
        self.flag = flag
        self.database = flag.database
        self.table = flag.model._meta.table_name
        self.name = sql_of(flag, flag.model._meta.entity)

    def columns(self) -> dict[str, Column]:
        """Return the columns by name."""
        raise NotImplementedError

    def indexes(self) -> list[Index]:
        """Return the indexes."""
        raise NotImplementedError

    def checks(self) -> list[str]:
        """Return the conditions of the CHECKs."""
        raise NotImplementedError

    def is_checked(self) -> bool:
        """Say whether a CHECK names the flag's column."""
        name = re.escape(self.flag.column_name)
        word = re.compile(rf"(?<!\w){name}(?!\w)")
        return any(map(word.search, self.checks()))

    def triggers(self) -> list[tuple[str, str]]:
        """Return name and text of what fires at each update of a row."""
        raise NotImplementedError

    def plan(self, sql: str, parameters: Any) -> str:
        """Return how the query is gone about, if the table is large."""
        raise NotImplementedError

    def finds_by(self, plan: str, index: Index) -> bool:
        """Say whether `plan` reads `index`."""
        return index.name in plan

    def is_of(self, column: Column, types: Container[str]) -> bool:
        """Say whether the column's type is one of `types`."""
        # MySQL 8 and MariaDB differ in the width that they show.
        return column.type in types or column.type.partition("(")[0] in types

    def is_right(self, index: Index) -> bool:
        """Say whether `index` is the flag's: of pending rows, by their due times."""
        own, due = self.flag.column_name, self.flag.due.column_name
        return index.columns[:1] == (due,) and _bare(index.only) == _bare(own)

    def unfit_engine(self) -> str | None:
        """Return the table's engine, if it is one without transactions."""
        return None

    def rights(self) -> Iterator[Finding]:
        """Yield what keeps the role from working, if anything does."""
        yield from ()

    def table_options(self) -> Iterator[Finding]:
        """Yield what is wrong with the table as a whole."""
        yield from ()

    def mended(self, column: str, field: Any, wrong: str) -> str:
        """Return the statement that mends a column whose `wrong` ("type", "null",
        "default") is wrong."""
        raise NotImplementedError

    def nothing(self, field: Any) -> str:
        """Return what a column of an idle row holds, as SQL."""
        return "FALSE" if field is self.flag else "0"

    def holds_null(self, column: str) -> bool:
        """Say whether there is a NULL in `column`."""
        where = f"FROM {self.name} WHERE {column} IS NULL"
        return bool(self.rows(f"SELECT 1 {where} LIMIT 1"))

    def rows(self, sql: str, *parameters: Any) -> list[Any]:
        """Return what the database answers."""
        return list(self.database.execute_sql(sql, parameters or None).fetchall())


def ddl_of(field: Any) -> Node:
    """Return the definition of a column."""
    ddl: Node = field.ddl(field.model._meta.database.get_sql_context())
    return ddl


def sql_of(flag: PendingFlag, node: Node) -> str:
    """Return `node` as the flag's database writes it."""
    sql, _ = flag.database.get_sql_context().sql(node).query()
    return str(sql)


def denied(catalogue: Catalogue) -> Iterator[Finding]:
    """Yield that the role may not read or change the rows: planned, not done."""
    flag = catalogue.flag
    own = (flag, *flag.companions.values())
    update = ModelUpdate(flag.model, {field: field for field in own})
    sql, parameters = update.where(flag.due == NEVER).sql()
    try:
        catalogue.rows(f"EXPLAIN {sql}", *parameters)
    except (peewee.DatabaseError, peewee.InterfaceError) as error:
        reason = str(error).strip().partition("\n")[0]
        remedy = f"GRANT SELECT, UPDATE ON {catalogue.name} TO "
        remedy += role_of(catalogue.database)
        yield Finding(Level.FAILURE, flag.label, reason, remedy)


def role_of(database: peewee.Database) -> str:
    """Return the role that we are, as GRANT names it; "" where there are none."""
    sql = dialect_of(database).role
    return str(database.execute_sql(f"SELECT {sql}").fetchone()[0]) if sql else ""


def checks_in(sql: str) -> list[str]:
    """Return what stands in the CHECKs of a CREATE TABLE, each with its line's rest."""
    return re.findall(r"\bCHECK\s*\(([^\n]*?)\)", sql, re.IGNORECASE)


def _bare(name: str | None) -> str:
    return (name or "").strip('()"').lower()
