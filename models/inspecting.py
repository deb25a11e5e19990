"""Is the database as a flag needs it? Each finding says what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import peewee
from peewee import SQL, Entity

from .catalogues import (
    Catalogue,
    Column,
    Finding,
    Index,
    Level,
    PostgresqlCatalogue,
    SqliteCatalogue,
    catalogue_of,
    role_of,
    sql_of,
)
from .dialects import dialect_of
from .flags import PendingFlag
from .operations import refusals, the_database
from .states import State, condition

__all__ = [
    "Finding",
    "Level",
    "inspected",
    "inspected_operations",
    "longest_transaction",
]

_COMMAND = "`pending migration update`, then `pending migrate`"

_TRUTH = {"bool", "boolean", "tinyint(1)"}
_LARGE = {"bigint", "bigint(20)"}
_SMALL = {"smallint", "smallint(6)", "integer", "int", "int(11)", *_LARGE}
_TEXT = {"text", "mediumtext", "longtext", "character varying"}
_FALSE = {"false", "0", "b'0'"}
_ZERO = {"0"}


def inspected(flag: PendingFlag) -> Iterator[Finding]:
    """Yield what is wrong with the flag's table, or that all is well.

    Raises:
        peewee.PeeweeException: the database does not answer.
    """
    if not flag.model.table_exists():
        yield Finding(
            Level.FAILURE,
            flag.label,
            "its table is not there",
            f"`pending migrate`, or {flag.model.__name__}.create_table()",
        )
        return
    found = [one for step in _STEPS for one in _tried(flag, step)]
    yield from found
    if all(one.level is Level.OK for one in found):
        yield Finding(Level.OK, flag.label, "columns, index, CHECK, plan and rights")


def inspected_operations() -> Iterator[Finding]:
    """Yield which of the tables of operating the role may not change.

    Raises:
        peewee.PeeweeException: the database does not answer.
    """
    for name, reason in refusals().items():
        role = role_of(the_database())
        yield Finding(
            Level.WARNING,
            "tables of operating",
            f"{reason}: no pauses, heartbeats, numbers",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO {role}",
        )


def longest_transaction(database: peewee.Database) -> tuple[timedelta, str] | None:
    """Return for how long the oldest transaction has been open, and what ends it.

    Returns:
        None if there is none, or none that the role may see.

    Raises:
        peewee.PeeweeException: the database does not answer.
    """
    sql = dialect_of(database).longest_transaction
    found = database.execute_sql(sql).fetchone() if sql else None
    return (timedelta(seconds=found[0]), found[1]) if found else None


def _tried(
    flag: PendingFlag, step: Callable[[Catalogue], Iterator[Finding]]
) -> list[Finding]:
    try:
        return list(step(catalogue_of(flag)))
    except (peewee.DatabaseError, peewee.InterfaceError) as error:
        flag.database.close()
        flag.database.connect(reuse_if_open=True)
        reason = str(error).strip().partition("\n")[0]
        return [
            Finding(
                Level.FAILURE,
                flag.label,
                f"{step.__name__.strip('_').replace('_', ' ')}: {reason}",
                "give the role the rights that it lacks",
            )
        ]


def _columns(catalogue: Catalogue) -> Iterator[Finding]:
    there, flag = catalogue.columns(), catalogue.flag
    names = [field.column_name for field in flag.columns.values()]
    missing = ", ".join(name for name in names if name not in there)
    if missing:
        text = f"columns are missing: {missing}"
        yield Finding(Level.FAILURE, flag.label, text, _COMMAND)
    yield from _own_columns(catalogue)
    for suffix, field in flag.columns.items():
        name = field.column_name
        if name not in there:
            continue
        quoted = sql_of(flag, Entity(name))
        for wrong, text in _differences(catalogue, suffix, there[name]):
            if wrong == "null" and catalogue.holds_null(quoted):
                yield _nulls(catalogue, quoted, field)
            yield Finding(
                Level.FAILURE,
                flag.label,
                f"the column {name} {text}",
                catalogue.mended(quoted, field, wrong),
            )


def _own_columns(catalogue: Catalogue) -> Iterator[Finding]:
    """A claim returns whole rows, so that one column of the model's own may stop it."""
    meta, there = catalogue.flag.model._meta, catalogue.columns()
    flags = {field for flag in meta.flags for field in flag.columns.values()}
    own = [field.column_name for field in meta.sorted_fields if field not in flags]
    if missing := ", ".join(name for name in own if name not in there):
        yield Finding(
            Level.FAILURE,
            catalogue.flag.label,
            f"columns of your model are missing: {missing}; no row can be claimed",
            "add them by a migration of your own, or take them out of the model",
        )


def _nulls(catalogue: Catalogue, quoted: str, field: Any) -> Finding:
    return Finding(
        Level.FAILURE,
        catalogue.flag.label,
        f"rows hold NULL in the column {field.column_name}",
        f"UPDATE {catalogue.name} SET {quoted} = {catalogue.nothing(field)}"
        f" WHERE {quoted} IS NULL",
    )


def _differences(
    catalogue: Catalogue, suffix: str, column: Column
) -> Iterator[tuple[str, str]]:
    types, optional, defaults = _DECLARED[suffix]
    if not catalogue.is_of(column, types):
        yield "type", f"is {column.type}, not {min(types, key=len)}"
    if column.nullable and not optional:
        yield "null", "may be NULL"
    default = (column.default or "").strip("()'").lower()
    if not optional and default.partition("::")[0].strip("'") not in defaults:
        yield "default", f"has no default {min(defaults)}"


def _index(catalogue: Catalogue) -> Iterator[Finding]:
    flag = catalogue.flag
    if catalogue.columns().keys() < {flag.column_name, flag.due.column_name}:
        return  # one thing after the other
    right = [index for index in catalogue.indexes() if catalogue.is_right(index)]
    if not right:
        text = "the index of due rows is missing: each look reads the whole table"
        yield Finding(Level.FAILURE, flag.label, text, _COMMAND)
    elif not any(index.valid for index in right):
        yield Finding(
            Level.FAILURE,
            flag.label,
            f"the index {right[0].name} is not valid: it was not built to its end",
            _COMMAND,
        )
    elif _is_whole(catalogue) and not any(_rights(catalogue)):
        yield from _plan(catalogue, right)


def _is_whole(catalogue: Catalogue) -> bool:
    """Say whether no column is missing: what else is wrong can be told apart."""
    own = {field.column_name for field in catalogue.flag.columns.values()}
    return own <= catalogue.columns().keys()


def _order(catalogue: Catalogue) -> Iterator[Finding]:
    """The indexes of rows that are to run one after the other."""
    flag, there = catalogue.flag, {index.name for index in catalogue.indexes()}
    for index in flag.order_indexes():
        if index._name not in there:
            sql, _ = flag.model._schema._create_index(index, safe=False).query()
            text = "an index for serialize_by is missing: each claim reads the table"
            yield Finding(Level.FAILURE, flag.label, text, sql)


def _plan(catalogue: Catalogue, right: list[Index]) -> Iterator[Finding]:
    flag = catalogue.flag
    query = flag.model.select(SQL("1")).where(condition(flag, State.DUE))
    sql, parameters = query.order_by(flag.due).limit(1).sql()
    plan = catalogue.plan(sql, parameters)
    if not any(catalogue.finds_by(plan, index) for index in right):
        yield Finding(
            Level.WARNING,
            flag.label,
            f"the claim does not use the index: {' · '.join(plan.split())[:200]}",
            f"ANALYZE {catalogue.name}, or drop what is chosen in its place",
        )


def _check(catalogue: Catalogue) -> Iterator[Finding]:
    flag = catalogue.flag
    name = flag.column_name
    if name not in catalogue.columns() or catalogue.is_checked():
        return
    if isinstance(catalogue, PostgresqlCatalogue):
        return  # its booleans are nothing else anyway
    remedy = _COMMAND
    if isinstance(catalogue, SqliteCatalogue):
        remedy = catalogue.mended(name, flag, "check")
    text = f"no CHECK keeps {name} to true and false: a 2 would never be done"
    yield Finding(Level.WARNING, flag.label, text, remedy)


def _rights(catalogue: Catalogue) -> Iterator[Finding]:
    if _is_whole(catalogue):
        yield from catalogue.rights()


def _table(catalogue: Catalogue) -> Iterator[Finding]:
    yield from catalogue.table_options()


def _triggers(catalogue: Catalogue) -> Iterator[Finding]:
    flag = catalogue.flag
    for name, text in catalogue.triggers():
        if re.search(rf"\b{re.escape(flag.column_name)}\b", text):
            yield Finding(
                Level.WARNING,
                flag.label,
                f"the trigger {name} fires at each update and names the flag: if it"
                " marks, no row is ever done",
                "let it fire at the columns that it is about (UPDATE OF …)",
            )


def _saving(catalogue: Catalogue) -> Iterator[Finding]:
    model = catalogue.flag.model
    if not model._meta.only_save_dirty:
        yield Finding(
            Level.FAILURE,
            catalogue.flag.label,
            f"{model.__name__}.save() writes columns that were not assigned: a stale"
            " row erases marks",
            f"take `only_save_dirty = False` out of {model.__name__}.Meta",
        )


_STEPS = (_saving, _columns, _index, _order, _check, _rights, _table, _triggers)

_DECLARED = {
    "": (_TRUTH, False, _FALSE),
    "at": (_LARGE, False, _ZERO),
    "due": (_LARGE, False, _ZERO),
    "attempts": (_SMALL, False, _ZERO),
    "crashes": (_SMALL, False, _ZERO),
    "until": (_LARGE, False, _ZERO),
    "lease": (_LARGE, True, _ZERO),
    "error": (_TEXT, True, _ZERO),
}
