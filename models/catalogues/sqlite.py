"""What SQLite says of a table: the text that made it."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from typing import Any

import peewee
from peewee import SQL, ModelUpdate

from .base import Catalogue, Column, Finding, Index, Level, checks_in


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
        return checks_in(sql)

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
