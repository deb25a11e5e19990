"""Migrations, drafted: scripts of playhouse.migrations that add and drop flags.

A script holds a copy of its own of what it needs of the model, so that it stays as it
is when the application goes on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .flags import PendingFlag

_SCRIPT = '''"""{title}."""

from models import PendingFlag, PendingModel
from models.migrating import add_flag, drop_flag

atomic = False  # step by step, so that nobody waits; it may be run again


def up(migrator, db):
    {up}


def down(migrator, db):
    {down}


def _flag(db):
    class Table(PendingModel):
        {name} = PendingFlag({options})

        class Meta:
            database = db
            table_name = {table}
{schema}
    return Table.{name}
'''


@dataclass(frozen=True, slots=True)
class Draft:
    """A script that is to be written.

    Attributes:
        name: what its file is called, after the number.
        about: the part of the name that tells the flag.
        text: the script.
    """

    name: str
    about: str
    text: str


@dataclass(frozen=True, slots=True)
class Names:
    """What a flag is called in the database, whether it is declared or not.

    Attributes:
        column: default: the flag's name.
    """

    flag: str
    table: str
    schema: str | None = None
    column: str | None = None


def names_of(flag: PendingFlag) -> Names:
    """Return what a flag that is declared is called."""
    meta = flag.model._meta
    return Names(flag.was or flag.name, meta.table_name, meta.schema, flag.column_name)


def addition(flag: Names) -> Draft:
    """Draft what adds a flag to a table that exists."""
    return _draft("add", flag, "add_flag(_flag(db))", "drop_flag(_flag(db))")


def removal(flag: Names) -> Draft:
    """Draft what drops a flag that no code knows any more."""
    return _draft("remove", flag, "drop_flag(_flag(db))", "add_flag(_flag(db))")


def completion(flag: Names, parts: Sequence[str]) -> Draft:
    """Draft what adds `parts`, which `migrating.lacking` found, to a flag."""
    only = ", ".join(f'"{part}"' for part in parts)
    down = f"drop_flag(_flag(db), only=[{only}])"
    return _draft("complete", flag, "add_flag(_flag(db))", down, *parts)


def _draft(verb: str, flag: Names, up: str, down: str, *parts: str) -> Draft:
    schema = f"            schema = {_quoted(flag.schema)}\n" if flag.schema else ""
    column = flag.column if flag.column != flag.flag else None
    about = _plain(f"{flag.table}_{flag.flag}")
    text = _SCRIPT.format(
        title=f"{verb.capitalize()} {flag.table}.{flag.flag}",
        up=up,
        down=down,
        name=flag.flag,
        options=f"column_name={_quoted(column)}" if column else "",
        table=_quoted(flag.table),
        schema=schema,
    )
    return Draft("_".join((verb, about, *parts)), about, text)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _plain(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_").lower()
