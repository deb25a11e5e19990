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

from models import example
from models.connection import masked
from models.operations import the_database

from ..failures import is_missing_table, remedy
from ..logs import use_json
from .completing import completion
from .dashboard import dashboard
from .doctor import doctor
from .draining import drain_command, sweep_command
from .listing import list_rows, show
from .migrating import migrate_command, migration, rollback_command
from .pausing import pause_command, resume_command
from .showing import PlainFormatter
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


for command in (
    *(status, list_rows, show),
    *(retry, mark, unmark, park),
    *(pause_command, resume_command, drain_command, sweep_command),
    *(migrate_command, rollback_command, migration),
    *(dashboard, doctor, completion),
):
    cli.add_command(command)

if example.is_wanted():
    from .signup import signup

    cli.add_command(signup)


def main() -> None:
    """Run the command; what the database says against it is one line, status 1."""
    try:
        cli()
    except (peewee.DatabaseError, peewee.InterfaceError) as error:
        reason = " ".join(str(error).partition("\nLINE ")[0].split())
        where = masked(str(the_database().database))
        sys.exit(f"pending: the database {where} says: {reason}{_remedy(error)}")


def _remedy(error: Exception) -> str:
    alters = {"migrate", "rollback"} & set(sys.argv[1:2])
    if alters and is_missing_table(error):
        return "; make the table first, with create_table() of your model"
    return remedy(error)
