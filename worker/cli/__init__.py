"""The `pending` command: what people type.

It ends with 0 if all is well, with 1 if there is trouble (rows or set-ups that are not
as they should be, a database that does not answer), with 2 if the command itself
cannot be meant.
"""

from __future__ import annotations

import logging
import sys

import click
import peewee

from models import database
from models.connection import masked
from models.migrating import migrate

from ..failures import is_missing_table
from ..logs import use_json
from .asking import json_option
from .completing import completion
from .dashboard import dashboard
from .doctor import doctor
from .draining import drain_command, sweep_command
from .listing import list_rows, show
from .pausing import pause_command, resume_command
from .showing import PlainFormatter, as_json
from .signup import signup
from .status import status
from .steering import mark, park, retry, unmark


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pending-flags")
def cli() -> None:
    """Background work that cannot be lost: flags in rows.

    \b
    pending status                                  is anything late?
    pending list user.needs_welcome_email           what was given up, and why?
    pending retry user.needs_welcome_email --all    try it again
    pending doctor                                  is everything set up?
    pending dashboard                               all of this in a browser

    Name the modules of your models and handlers in PENDING_MODULES. The status is 0
    if all is well, 1 if there is trouble, 2 if the command cannot be meant.
    """
    logging.basicConfig(level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(PlainFormatter("%(levelname)s %(message)s"))
    # What an operator changes is told, also where nothing else is.
    logging.getLogger("pending.operator").setLevel(logging.INFO)
    use_json()


@cli.command("migrate")
@json_option
def migrate_command(json: bool) -> None:
    """Bring the database's schema up to date.

    \b
    pending migrate

    Safe to run at any time, any number of times, from several places at once.
    """
    applied = migrate(database)
    if json:
        as_json({"applied": applied})
        return
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("The schema is up to date.")


for command in (
    *(status, list_rows, show),
    *(retry, mark, unmark, park),
    *(pause_command, resume_command, drain_command, sweep_command),
    *(dashboard, doctor, completion, signup),
):
    cli.add_command(command)


def main() -> None:
    """Run the command; what the database says against it is one line, status 1."""
    try:
        cli()
    except (peewee.DatabaseError, peewee.InterfaceError) as error:
        reason = " ".join(str(error).split())
        where = masked(str(database.database))
        hint = "; run `pending migrate` first" if is_missing_table(error) else ""
        sys.exit(f"pending: the database {where} says: {reason}{hint}")
