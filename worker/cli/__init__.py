"""The `pending` command: what people type."""

from __future__ import annotations

import logging
import sys

import click
import peewee

from models import database
from models.connection import masked
from models.migrating import migrate

from ..failures import is_missing_table
from .signup import signup


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pending-flags")
def cli() -> None:
    """Background work that cannot be lost: flags in rows."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")


@cli.command("migrate")
def migrate_command() -> None:
    """Bring the database's schema up to date.

    Safe to run at any time, any number of times, from several places at once.
    """
    applied = migrate(database)
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("The schema is up to date.")


cli.add_command(signup)


def main() -> None:
    """Run the command; what the database says against it is one line, status 1."""
    try:
        cli()
    except (peewee.DatabaseError, peewee.InterfaceError) as error:
        reason = " ".join(str(error).split())
        where = masked(str(database.database))
        hint = "; run `pending migrate` first" if is_missing_table(error) else ""
        sys.exit(f"pending: the database {where} says: {reason}{hint}")
