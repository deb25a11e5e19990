"""Schemas: migrate, roll back, and have migrations written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import peewee
from playhouse.migrations import MigrationError

from models import FlagError, PendingFlag
from models.connection import connected
from models.drafting import Draft, Names, addition, completion, names_of, removal
from models.migrating import (
    lacking,
    migrate,
    migrate_flags,
    roll_back_flags,
    runner_of_flags,
)
from models.operations import the_database

from ..overview import known_flags
from ..settings import settings
from .asking import FLAG, json_option, load
from .showing import as_json

F = TypeVar("F", bound=Callable[..., Any])


def folder_option(command: F) -> F:
    """Add `--folder`."""
    return click.option(
        "--folder",
        type=click.Path(path_type=Path, file_okay=False),
        default=lambda: settings.migrations,
        show_default="PENDING_MIGRATIONS",
        help="Where your migrations are.",
    )(command)


@click.command("migrate")
@folder_option
@json_option
def migrate_command(folder: Path, json: bool) -> None:
    """Bring the databases' schemas up to date.

    \b
    pending migrate

    This project's tables, then the migrations of yours that `pending migration` wrote.
    Safe to run at any time, any number of times, from several places at once, also
    after a run that was stopped in the middle.
    """
    load()
    with _problems_told():
        applied = migrate(the_database())
        for name, one in _databases(folder).items():
            done = migrate_flags(one, folder / name)
            applied += [f"{name}/{script}" if name else script for script in done]
    _tell("applied", applied, json=json, otherwise="The schema is up to date.")


@click.command("rollback")
@click.argument("migration", required=False)
@folder_option
@json_option
def rollback_command(migration: str | None, folder: Path, json: bool) -> None:
    """Take a migration of yours back: the last one, or all down to MIGRATION.

    \b
    pending rollback
    pending rollback 0002_add_order_needs_receipt

    Deploy code that does not know the flag first. A flag that has pending rows is not
    dropped.
    """
    name, _, script = (migration or "").rpartition("/")
    load()
    with _problems_told():
        databases = _databases(folder)
        if name not in databases:
            raise click.ClickException(f"{folder / name} has no migrations")
        undone = roll_back_flags(databases[name], folder / name, script or None)
    _tell("took back", undone, json=json, otherwise="There is nothing to take back.")


@click.group("migration")
def migration() -> None:
    """Have a migration written, for `pending migrate` to run.

    \b
    pending migration add order.needs_receipt       its columns, CHECK and index
    pending migration remove order.needs_receipt    all of them go
    pending migration update                        what tables lack of their flags

    They are scripts of playhouse.migrations, and yours: read them, commit them.
    """


@migration.command()
@click.argument("flag", type=FLAG)
@folder_option
@json_option
def add(flag: PendingFlag, folder: Path, json: bool) -> None:
    """Write what adds FLAG to a table that exists.

    Declare it in its model, write the migration, and run it before that code is
    deployed. Nobody who writes to the table has to wait meanwhile.
    """
    path = _written(folder, flag.label, addition(names_of(flag)))
    then = "Run `pending migrate`, then deploy the code that knows the flag."
    _tell("wrote", [path], json=json, then=then)


@migration.command()
@click.argument("name", metavar="TABLE.FLAG")
@folder_option
@json_option
def remove(name: str, folder: Path, json: bool) -> None:
    """Write what drops TABLE.FLAG, which no code knows any more.

    Deploy code that does not know it first; then write and run the migration. It does
    nothing as long as rows are pending.
    """
    load()
    declared = {flag.label: flag for flag in known_flags()}.get(name)
    if declared is not None:
        model = declared.model
        raise click.ClickException(
            f"{name} is still declared by {model.__module__}.{model.__name__}: take it"
            " out there and deploy that first"
        )
    *schema, table, flag = ["", *name.rpartition("/")[2].split(".")]
    if not flag.isidentifier() or not table:
        raise click.UsageError(f"{name!r} is no flag; write order.needs_receipt")
    draft = removal(Names(flag, table, ".".join(schema[1:]) or None))
    then = "Run `pending migrate` once no process has code that knows the flag."
    _tell("wrote", [_written(folder, name, draft)], json=json, then=then)


@migration.command()
@folder_option
@json_option
def update(folder: Path, json: bool) -> None:
    """Write what tables lack of their flags: a migration for each.

    For flags that you declared, and for columns that a new version of this project
    adds to those you have.
    """
    load()
    paths = []
    for flag in known_flags():
        with connected(flag.database):
            parts = lacking(flag) if flag.model.table_exists() else []
        if parts:
            names = names_of(flag)
            new = "" in parts
            draft = addition(names) if new else completion(names, parts)
            paths.append(_written(folder, flag.label, draft))
    _tell("wrote", paths, json=json, otherwise="Nothing is missing.")


def _tell(
    done: str,
    scripts: Sequence[str],
    *,
    json: bool,
    then: str = "",
    otherwise: str = "",
) -> None:
    """Say what was `done` to which scripts; in JSON that is the only key."""
    if json:
        as_json({done.replace(" ", "_"): scripts})
        return
    lines = [f"{done} {script}" for script in scripts]
    for line in [*lines, then if scripts else otherwise]:
        if line:
            click.echo(line)


def _written(folder: Path, label: str, draft: Draft) -> str:
    """Write the migration; return its path."""
    place = folder / label.rpartition("/")[0]
    runner = runner_of_flags(the_database(), place)
    about = [m.name for m in runner.migrations() if draft.about in m.name]
    if about and about[-1].partition("_")[2] == draft.name:
        raise click.ClickException(
            f"{place / about[-1]}.py does that already; run `pending migrate`"
        )
    return str(runner.create(draft.name, draft.text))


def _databases(folder: Path) -> dict[str, peewee.Database]:
    """Return the databases that have migrations, by the names of their folders: those
    of the default one, which has none, are in `folder` itself."""
    found = {"": the_database()}
    names = sorted({path.parent.name for path in folder.glob("*/[0-9]*.py")})
    known = {flag.label.rpartition("/")[0]: flag.database for flag in known_flags()}
    for name in names:
        if name not in known:
            raise click.ClickException(
                f"{folder / name}: no flag of a database {name} is known;"
                " PENDING_MODULES names your modules"
            )
        found[name] = known[name]
    return found


@contextmanager
def _problems_told() -> Iterator[None]:
    try:
        yield
    except (MigrationError, FlagError) as error:
        raise click.ClickException(str(error)) from error
