"""What PostgreSQL says of a table: pg_catalog, which shows all to every role."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

from .base import Catalogue, Column, Finding, Index, Level, denied, role_of


class PostgresqlCatalogue(Catalogue):
    """PostgreSQL: pg_catalog, which shows all to every role."""

    def columns(self) -> dict[str, Column]:
        rows = self.rows(
            "SELECT attname, format_type(atttypid, atttypmod), NOT attnotnull,"
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

    def is_of(self, column: Column, types: Container[str]) -> bool:
        return column.type in types  # with its width: a short text loses an error

    def plan(self, sql: str, parameters: Any) -> str:
        with self.database.atomic() as transaction:
            # A small table is read whole, and that is right.
            self.database.execute_sql("SET LOCAL enable_seqscan = off")
            rows = self.rows(f"EXPLAIN {sql}", *parameters)
            transaction.rollback()
        return "\n".join(line for (line,) in rows)

    def finds_by(self, plan: str, index: Index) -> bool:
        # Row-level security may hide all rows: then nothing is read at all. In a
        # partitioned table each partition has its own index, under another name.
        parts = self.rows(
            "SELECT part.relname FROM pg_index i JOIN pg_class c ON c.oid = indexrelid,"
            " pg_partition_tree(c.oid) t JOIN pg_class part ON part.oid = t.relid"
            " WHERE i.indrelid = to_regclass(%s) AND c.relname = %s",
            *(self.name, index.name),
        )
        named = (index.name, *(name for (name,) in parts), "One-Time Filter: false")
        return any(name in plan for name in named)

    def rights(self) -> Iterator[Finding]:
        yield from denied(self)
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
            role = role_of(self.database)
            yield Finding(
                Level.WARNING,
                self.flag.label,
                f"row-level security may hide rows from the role {role}",
                f"ALTER ROLE {role} BYPASSRLS, or a policy that lets it see all",
            )

    def mended(self, column: str, field: Any, wrong: str) -> str:
        kinds = {"BOOL": "boolean", "BIGINT": "bigint", "SMALLINT": "smallint"}
        change = {
            "type": f"TYPE {kinds.get(field.field_type, 'text')}",
            "null": "SET NOT NULL",
            "default": f"SET DEFAULT {self.nothing(field)}",
        }[wrong]
        return f"ALTER TABLE {self.name} ALTER COLUMN {column} {change}"
