"""SQL that is built once and run with other values.

Peewee builds a query anew each time it runs, which for a short statement takes
longer than the database does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peewee import Field, FieldAccessor, ForeignKeyAccessor, Model, Value
from peewee import ModelObjectCursorWrapper as Objects

#: The setters of fields that keep what is loaded in `__data__`, and no more.
WITHIN: set[Any] = {FieldAccessor.__set__, ForeignKeyAccessor.__set__}

#: And of those that keep it beside that, in the row's own `__dict__`.
BESIDE: set[Any] = set()


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
        self._loading: Any = None  # known from the first rows' columns

    def run(self, **blanks: Any) -> Any:
        """Execute it with `blanks` filled in; return the driver's cursor."""
        database = self.model._meta.database
        return database.execute_sql(self.sql, self.filled(blanks))

    def rows(self, **blanks: Any) -> list[Any]:
        """Execute it with `blanks` filled in; return what it gives as model rows."""
        cursor = self.run(**blanks)
        if self._loading is None:
            self._loading = _loading(cursor, self.model)
        return [self._loading.process_row(row) for row in cursor.fetchall()]

    def filled(self, blanks: dict[str, Any]) -> list[Any]:
        """Return the values of the query's parameters, in their order."""
        return [
            _value(p.field, blanks[p.name]) if isinstance(p, _Gap) else p
            for p in self.params
        ]


class _Loading(Objects):
    """As peewee makes rows, but without assigning field by field, which takes twice as
    long."""

    def sort(self, setters: dict[str, Any]) -> None:
        """Sort the columns by what becomes of their values.

        Those kept beside the row's data are the machinery's, and need no converting.
        """
        named = [(name, nth) for nth, name in enumerate(self.unique_columns)]
        self.beside = [pair for pair in named if setters.get(pair[0]) in BESIDE]
        within = [pair for pair in named if pair not in self.beside]
        self.plain = [pair for pair in within if pair[1] in self.no_convert]
        self.converted = [
            (name, nth, self.converters[nth])
            for name, nth in within
            if nth not in self.no_convert
        ]

    def process_row(self, row: Any) -> Any:
        loaded = self.constructor(__no_default__=1)
        own, data = loaded.__dict__, loaded.__data__
        for name, nth in self.plain:
            data[name] = row[nth]
        for name, nth, converter in self.converted:
            data[name] = converter(row[nth])
        for name, nth in self.beside:
            own[name] = row[nth]
        return loaded


def _loading(cursor: Any, model: type[Model]) -> Any:
    """Return what makes rows of `model` from those of `cursor`, and later ones."""
    setters = {f.name: f.accessor_class.__set__ for f in model._meta.sorted_fields}
    is_plain = set(setters.values()) <= WITHIN | BESIDE
    is_ours = is_plain and model.__init__ is Model.__init__
    loading: Any = (_Loading if is_ours else Objects)(cursor, model, None, model)
    loading.initialize()
    if is_ours:
        loading.sort(setters)
    loading.cursor = None
    return loading


def _value(field: Field[Any] | None, value: Any) -> Any:
    return value if field is None else field.db_value(value)
