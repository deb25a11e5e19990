"""What a database says of a flag's table, and the statements that would mend it.

Reads the catalogues, and plans statements without running them; nothing is changed.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import peewee
from peewee import SQL, ModelUpdate, Node

from .columns import NEVER
from .flags import PendingFlag


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

    def rows(self, sql: str, *parameters: Any) -> list[Any]:
        """Return what the database answers."""
        return list(self.database.execute_sql(sql, parameters or None).fetchall())


class SqliteCatalogue(Catalogue):
    """SQLite: what a table is, is the text that made it."""

    def columns(self) -> dict[str, Column]:
        return {
            name: Column(kind.lower(), not required, default)
            for _, name, kind, required, default, _ in self.rows(
                f"PRAGMA table_info({self.name})"
            )
        }

    def indexes(self) -> list[Index]:
        found = []
        for name, sql in self._made("index"):
            quoted = name.replace('"', '""')
            columns = self.rows(f'PRAGMA index_info("{quoted}")')
            _, _, only = re.sub(r"\s+", " ", sql).rpartition(" WHERE ")
            found.append(Index(name, tuple(c[2] for c in columns), only or None))
        return found

    def checks(self) -> list[str]:
        ((_, sql),) = self._made("table")
        return _checks_in(sql)

    def triggers(self) -> list[tuple[str, str]]:
        head = re.compile(r"\bUPDATE\b.*?\bON\b", re.IGNORECASE | re.DOTALL)
        return [(n, sql) for n, sql in self._made("trigger") if head.search(sql)]

    def is_of(self, column: Column, types: Container[str]) -> bool:
        return True  # a column of SQLite holds whatever it is given

    def plan(self, sql: str, parameters: Any) -> str:
        rows = self.rows(f"EXPLAIN QUERY PLAN {sql}", *parameters)
        return "\n".join(row[3] for row in rows)

    def rights(self) -> Iterator[Finding]:
        try:
            # Nothing is changed: the file is opened for writing, no more.
            ModelUpdate(self.flag.model, {self.flag: False}).where(SQL("0")).execute()
        except peewee.OperationalError as error:
            yield Finding(
                Level.FAILURE,
                self.flag.label,
                f"the file cannot be written: {error}",
                f"give the user the right to write {self.database.database}, and to"
                " its folder",
            )

    def table_options(self) -> Iterator[Finding]:
        ((mode,),) = self.rows("PRAGMA journal_mode")
        if mode.lower() not in {"wal", "memory"}:
            yield Finding(
                Level.WARNING,
                self.flag.label,
                f"the file's journal mode is {mode}: readers block writers",
                "PRAGMA journal_mode = wal",
            )

    def mended(self, column: str, field: Any, wrong: str) -> str:
        return (
            "SQLite alters no column: make the table anew, with create_table() and"
            " INSERT … SELECT"
        )

    def _made(self, kind: str) -> list[tuple[str, str]]:
        return self.rows(
            "SELECT name, sql FROM sqlite_master"
            " WHERE type = ? AND tbl_name = ? AND sql IS NOT NULL",
            *(kind, self.table),
        )


class PostgresqlCatalogue(Catalogue):
    """PostgreSQL: pg_catalog, which shows all to every role."""

    def columns(self) -> dict[str, Column]:
        rows = self.rows(
            "SELECT attname, format_type(atttypid, NULL), NOT attnotnull,"
            " pg_get_expr(adbin, adrelid) FROM pg_attribute LEFT JOIN pg_attrdef"
            " ON adrelid = attrelid AND adnum = attnum"
            " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
            self.name,
        )
        return {name: Column(*rest) for name, *rest in rows}

    def indexes(self) -> list[Index]:
        rows = self.rows(
            "SELECT c.relname, array(SELECT attname FROM unnest(i.indkey) WITH"
            " ORDINALITY k(n, place) JOIN pg_attribute ON attrelid = i.indrelid AND"
            " attnum = k.n ORDER BY place), pg_get_expr(i.indpred, i.indrelid),"
            " i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE i.indrelid = to_regclass(%s)",
            self.name,
        )
        return [Index(n, tuple(columns), only, ok) for n, columns, only, ok in rows]

    def checks(self) -> list[str]:
        rows = self.rows(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid = to_regclass(%s) AND contype = 'c'",
            self.name,
        )
        return [text for (text,) in rows]

    def triggers(self) -> list[tuple[str, str]]:
        at_update = 16  # the bit of tgtype
        return self.rows(
            "SELECT tgname, pg_get_triggerdef(t.oid) || prosrc FROM pg_trigger t"
            " JOIN pg_proc p ON p.oid = tgfoid WHERE tgrelid = to_regclass(%s)"
            " AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & %s <> 0",
            *(self.name, at_update),
        )

    def plan(self, sql: str, parameters: Any) -> str:
        with self.database.atomic() as transaction:
            # A small table is read whole, and that is right.
            self.database.execute_sql("SET LOCAL enable_seqscan = off")
            rows = self.rows(f"EXPLAIN {sql}", *parameters)
            transaction.rollback()
        return "\n".join(line for (line,) in rows)

    def rights(self) -> Iterator[Finding]:
        role = self.rows("SELECT current_user")[0][0]
        yield from _denied(self, f'GRANT SELECT, UPDATE ON {self.name} TO "{role}"')
        if self.rows("SHOW transaction_read_only")[0][0] == "on":
            yield Finding(
                Level.FAILURE,
                self.flag.label,
                "the database takes no writes: a standby, or a role that is read-only",
                "let DATABASE_URL name the primary",
            )
        (hidden,) = self.rows(
            "SELECT row_security_active(to_regclass(%s)::oid)", self.name
        )
        if hidden[0]:
            yield Finding(
                Level.WARNING,
                self.flag.label,
                f"row-level security may hide rows from the role {role}",
                f'ALTER ROLE "{role}" BYPASSRLS, or a policy that lets it see all',
            )

    def mended(self, column: str, field: Any, wrong: str) -> str:
        kinds = {"BOOL": "boolean", "BIGINT": "bigint", "SMALLINT": "smallint"}
        change = {
            "type": f"TYPE {kinds.get(field.field_type, 'text')}",
            "null": "SET NOT NULL",
            "default": f"SET DEFAULT {'FALSE' if field is self.flag else '0'}",
        }[wrong]
        return f"ALTER TABLE {self.name} ALTER COLUMN {column} {change}"


class MysqlCatalogue(Catalogue):
    """MySQL and MariaDB: information_schema, and the text of SHOW CREATE TABLE."""

    def columns(self) -> dict[str, Column]:
        rows = self._schema(
            "SELECT column_name, column_type, is_nullable = 'YES', column_default"
            " FROM information_schema.columns WHERE table_name = %s"
        )
        return {
            name: Column(kind.lower(), bool(nullable), default)
            for name, kind, nullable, default in rows
        }

    def indexes(self) -> list[Index]:
        rows = self._schema(
            "SELECT index_name, column_name FROM information_schema.statistics"
            " WHERE table_name = %s",
            "ORDER BY index_name, seq_in_index",
        )
        found: dict[str, list[str]] = {}
        for name, column in rows:
            found.setdefault(name, []).append(column)
        return [Index(name, tuple(columns), None) for name, columns in found.items()]

    def is_right(self, index: Index) -> bool:
        own = (self.flag.column_name, self.flag.due.column_name)
        return index.columns[:2] == own

    def checks(self) -> list[str]:
        ((_, sql),) = self.rows(f"SHOW CREATE TABLE {self.name}")
        return _checks_in(sql)

    def triggers(self) -> list[tuple[str, str]]:
        return self._schema(
            "SELECT trigger_name, action_statement FROM information_schema.triggers"
            " WHERE event_object_table = %s AND event_manipulation = 'UPDATE'",
            schema="event_object_schema",
        )

    def plan(self, sql: str, parameters: Any) -> str:
        rows = self.rows(f"EXPLAIN {sql}", *parameters)
        return "\n".join(" ".join(map(str, row)) for row in rows)

    def rights(self) -> Iterator[Finding]:
        role = self.rows("SELECT CURRENT_USER()")[0][0]
        yield from _denied(self, f"GRANT SELECT, UPDATE ON {self.name} TO {role}")

    def table_options(self) -> Iterator[Finding]:
        rows = self._schema(
            "SELECT engine FROM information_schema.tables WHERE table_name = %s"
        )
        if rows and rows[0][0] != "InnoDB":
            yield Finding(
                Level.FAILURE,
                self.flag.label,
                f"its table's engine is {rows[0][0]}, which knows no transactions",
                f"ALTER TABLE {self.name} ENGINE = InnoDB",
            )
        found_rows = 2  # CLIENT.FOUND_ROWS
        if not getattr(self.database.connection(), "client_flag", 2) & found_rows:
            yield Finding(
                Level.FAILURE,
                self.flag.label,
                "its database counts changed rows where found ones are meant",
                "make it with models.connection.database_from_url()",
            )

    def mended(self, column: str, field: Any, wrong: str) -> str:
        return f"ALTER TABLE {self.name} MODIFY {sql_of(self.flag, ddl_of(field))}"

    def _schema(
        self, sql: str, order: str = "", *, schema: str = "table_schema"
    ) -> list[Any]:
        own = self.flag.model._meta.schema or self.database.database
        return self.rows(f"{sql} AND {schema} = %s {order}", self.table, own)


def catalogue_of(flag: PendingFlag) -> Catalogue:
    """Return what the flag's database says of its table."""
    for kind, catalogue in _CATALOGUES.items():
        if isinstance(flag.database, kind):
            return catalogue(flag)
    raise TypeError(f"flags do not work on {flag.database!r}")


_CATALOGUES: dict[type[peewee.Database], type[Catalogue]] = {
    peewee.SqliteDatabase: SqliteCatalogue,
    peewee.PostgresqlDatabase: PostgresqlCatalogue,
    peewee.MySQLDatabase: MysqlCatalogue,
}


def _denied(catalogue: Catalogue, remedy: str) -> Iterator[Finding]:
    """Yield that the role may not read or change the rows: planned, not done."""
    flag = catalogue.flag
    own = (flag, *flag.companions.values())
    update = ModelUpdate(flag.model, {field: field for field in own})
    sql, parameters = update.where(flag.due == NEVER).sql()
    try:
        catalogue.rows(f"EXPLAIN {sql}", *parameters)
    except (peewee.DatabaseError, peewee.InterfaceError) as error:
        reason = str(error).strip().partition("\n")[0]
        yield Finding(Level.FAILURE, flag.label, reason, remedy)


def _checks_in(sql: str) -> list[str]:
    """Return what stands in the CHECKs of a CREATE TABLE, each with its line's rest."""
    return re.findall(r"\bCHECK\s*\(([^\n]*?)\)", sql, re.IGNORECASE)


def _bare(name: str | None) -> str:
    return (name or "").strip('()"').lower()


def ddl_of(field: Any) -> Node:
    """Return the definition of a column."""
    ddl: Node = field.ddl(field.model._meta.database.get_sql_context())
    return ddl


def statement(flag: PendingFlag, verb: str, what: Node) -> str:
    """Return an ALTER TABLE of the flag's table."""
    table, rest = (sql_of(flag, node) for node in (flag.model._meta.entity, what))
    return f"ALTER TABLE {table} {verb} {rest}"


def sql_of(flag: PendingFlag, node: Node) -> str:
    """Return `node` as the flag's database writes it."""
    sql, _ = flag.database.get_sql_context().sql(node).query()
    return str(sql)
