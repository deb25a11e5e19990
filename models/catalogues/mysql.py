"""What MySQL and MariaDB say of a table: information_schema, and SHOW CREATE TABLE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .base import (
    Catalogue,
    Column,
    Finding,
    Index,
    Level,
    checks_in,
    ddl_of,
    denied,
    sql_of,
)


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
        return checks_in(sql)

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
        yield from denied(self)

    def table_options(self) -> Iterator[Finding]:
        engine = self.unfit_engine()
        if engine:
            yield Finding(
                Level.FAILURE,
                self.flag.label,
                f"its table's engine is {engine}, which knows no transactions",
                f"ALTER TABLE {self.name} ENGINE = InnoDB",
            )
        found_rows = 2  # CLIENT.FOUND_ROWS
        if not getattr(self.database.connection(), "client_flag", 2) & found_rows:
            yield Finding(
                Level.FAILURE,
                self.flag.label,
                "its database counts changed rows where found ones are meant",
                "make it with client_flag=pymysql.constants.CLIENT.FOUND_ROWS",
            )

    def unfit_engine(self) -> str | None:
        rows = self._schema(
            "SELECT engine FROM information_schema.tables WHERE table_name = %s"
        )
        engine = rows[0][0] if rows else None
        return None if engine == "InnoDB" else engine

    def mended(self, column: str, field: Any, wrong: str) -> str:
        return f"ALTER TABLE {self.name} MODIFY {sql_of(self.flag, ddl_of(field))}"

    def _schema(
        self, sql: str, order: str = "", *, schema: str = "table_schema"
    ) -> list[Any]:
        own = self.flag.model._meta.schema or self.database.database
        return self.rows(f"{sql} AND {schema} = %s {order}", self.table, own)
