"""SQL that is built once and run with other values.

Peewee builds a query anew each time it runs, which for a short statement takes
longer than the database does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import peewee
from peewee import Field, Node, Value


@dataclass(frozen=True, slots=True)
class _Gap:
    name: str
    field: Field[Any] | None


def blank(name: str, field: Field[Any] | None = None) -> Value:
    """Return what stands in a query for a value that is given when it runs.

    Args:
        field: converts the value for the database; default: it goes as it is.
    """
    return Value(_Gap(name, field), converter=False, unpack=False)


class Shape:
    """The SQL of `query`, a query of one model that may have blanks."""

    def __init__(self, query: Any) -> None:
        self.model = query.model
        self.sql, self.params = query.sql()

    def run(self, **blanks: Any) -> Any:
        """Execute it with `blanks` filled in; return the driver's cursor."""
        database = self.model._meta.database
        return database.execute_sql(self.sql, self.filled(blanks))

    def rows(self, **blanks: Any) -> list[Any]:
        """Execute it with `blanks` filled in; return what it gives as model rows."""
        return list(self.model.raw(self.sql, *self.filled(blanks)).execute())

    def filled(self, blanks: dict[str, Any]) -> list[Any]:
        """Return the values of the query's parameters, in their order."""
        return [
            _value(p.field, blanks[p.name]) if isinstance(p, _Gap) else p
            for p in self.params
        ]

    def written(self, context: Any, blanks: dict[str, Any]) -> bool:
        """Write the SQL and its values into peewee's `context`, if that can be done.

        It cannot for a field that makes SQL of its values, nor for peewee's literals.
        """
        values = self.filled(blanks)
        if context.state.value_literals or any(isinstance(v, Node) for v in values):
            return False
        context.literal(self.sql)
        for value in values:
            context.value(value, converter=False, add_param=False)
        return True


class RepeatedShape(Shape):
    """A query that begins with a row of blanks, to be run with many rows of values.

    PostgreSQL's alone. Its SQL says `MORE` where the other rows go, in the first one's
    last place.
    """

    MORE = "/* more */"

    def run_many(self, rows: Sequence[dict[str, Any]]) -> Any:
        """Execute it with a row of values for each of `rows`, which is not empty."""
        gaps = [p for p in self.params if isinstance(p, _Gap)]
        values = [_value(gap.field, row[gap.name]) for row in rows for gap in gaps]
        more = f"), ({', '.join(['%s'] * len(gaps))}" * (len(rows) - 1)
        sql = self.sql.replace(self.MORE, more)
        values += self.params[len(gaps) :]
        database = self.model._meta.database
        raw_cursor = _raw_cursor(database.connection())
        if raw_cursor is None:
            return database.execute_sql(sql, values)
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
            return raw_cursor.execute(_numbered(sql), values)


def _raw_cursor(connection: Any) -> Any:
    """psycopg 3 looks for the placeholders of a long statement each time, unless they
    are numbered: that takes as long as all the rest."""
    try:
        import psycopg  # noqa: PLC0415 (an optional driver)
    except ImportError:
        return None
    known = isinstance(connection, psycopg.Connection)
    return psycopg.RawCursor(connection) if known else None


def _numbered(sql: str) -> str:
    first, *parts = sql.split("%s")
    return first + "".join([f"${n}{part}" for n, part in enumerate(parts, 1)])


def _value(field: Field[Any] | None, value: Any) -> Any:
    return value if field is None else field.db_value(value)
