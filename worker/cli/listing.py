"""`pending list` and `pending show`: which rows, and why?"""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click

from models import PendingFlag
from models.errors import BadText
from models.listing import Row, listed, shown
from models.states import State

from ..wording import paragraph, plain, span
from .asking import (
    FLAG,
    checked,
    in_database,
    json_option,
    keys_of_text,
    state_option,
    where_option,
)
from .showing import as_json, error_cell, moment, table


@click.command("list")
@click.argument("flag", type=FLAG)
@state_option(default="parked", show_default=True, help="Which rows.")
@where_option
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--after", metavar="PAGE", help="Where the last page said that it ends.")
@json_option
def list_rows(  # noqa: PLR0913, PLR0917 (a command's options)
    flag: PendingFlag,
    state: str,
    filters: tuple[str, ...],
    limit: int,
    after: str | None,
    json: bool,
) -> None:
    """List rows of FLAG, those whose turn comes first at first.

    \b
    pending list user.needs_welcome_email
    pending list user.needs_welcome_email --state retrying --where email~@example.com
    pending list user.needs_welcome_email --where error~Timeout --json
    """
    with in_database(flag):
        try:
            page = listed(
                flag,
                State(state),
                filters=checked(flag, filters),
                after=after,
                limit=limit,
            )
        except BadText as error:
            raise click.UsageError(str(error)) from None
    if json:
        rows = [row_json(row) for row in page.rows]
        as_json(
            {"flag": flag.label, "rows": rows, "next": page.next, "more": page.more}
        )
        return
    head = ("key", "attempts", "crashes", "age", "due", "error")
    table(head, [_cells(row) for row in page.rows])
    if not page.rows:
        click.echo(f"No row is {state}; --state names another state.", err=True)
    if page.next:
        click.echo(f"More: --after {shlex.quote(page.next)}", err=True)
    elif page.more:
        click.echo("There may be more; --where finds them.", err=True)


@click.command()
@click.argument("flag", type=FLAG)
@click.argument("key")
@json_option
def show(flag: PendingFlag, key: str, json: bool) -> None:
    """Show one row of FLAG: its state, times, error, and its own fields.

    \b
    pending show user.needs_welcome_email 42
    pending show seat.needs_cleaning a,1     (a key of two columns)

    The status is 1 if there is no such row.
    """
    (wanted,) = keys_of_text(flag, [key])
    with in_database(flag):
        row = shown(flag, wanted)
    if row is None:
        click.echo(f"{flag.label} has no row {plain(key)}", err=True)
        sys.exit(1)
    if json:
        as_json({"flag": flag.label, **row_json(row)})
        return
    for name, value in _facts(row):
        click.echo(f"{name:9} {value}")
    click.echo()
    for name, value in row.values.items():
        click.echo(f"{name} = {plain(value, most=200)}")
    if row.error:
        click.echo(f"\n{paragraph(row.error)}")


def row_json(row: Row) -> dict[str, Any]:
    """Return a row as JSON; lengths of time in seconds."""
    return {
        "key": row.text,
        "state": row.state.value,
        "marked": row.at,
        "due": row.due,
        "age_seconds": row.age,
        "attempts": row.attempts,
        "crashes": row.crashes,
        "leased_until": row.until,
        "error": row.error,
        "values": row.values,
    }


def _cells(row: Row) -> list[object]:
    return [
        row.text,
        row.attempts,
        row.crashes,
        span(row.age),
        moment(row.due),
        error_cell(row.error),
    ]


def _facts(row: Row) -> list[tuple[str, object]]:
    return [
        ("key", plain(row.text)),
        ("state", row.state.value),
        ("marked", f"{moment(row.at)} ({span(row.age)} ago)" if row.at else "–"),
        ("due", moment(row.due)),
        ("attempts", row.attempts),
        ("crashes", row.crashes),
        ("leased", _lease(row)),
    ]


def _lease(row: Row) -> str:
    if not row.until:
        return "–"
    if row.state is State.RUNNING:
        return f"until {moment(row.until)}"
    return f"ran out {moment(row.until)}"
