"""`pending retry`, `mark`, `unmark`, `park`: what to do with rows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import click
from rich.progress import Progress

from models import PendingFlag, steering
from models.steering import Selection, selected, states_for

from .asking import (
    FLAG,
    by_option,
    in_database,
    json_option,
    selection,
    state_option,
    where_option,
)
from .showing import as_json, console

_LONG = 2_000  # rows from which on progress is shown

_PAST = {"retry": "retried", "mark": "marked", "unmark": "unmarked", "park": "parked"}

Verb = Callable[..., int]


def _options(verb: str) -> Callable[[Any], Any]:
    """Add what tells the rows that `verb` is for, and how."""
    options = (
        click.argument("flag", type=FLAG),
        click.argument("keys", nargs=-1, metavar="[KEY]..."),
        click.option(
            "--all", "everything", is_flag=True, help="All rows that it is for."
        ),
        where_option,
        state_option(
            states_for(verb),
            multiple=True,
            help="Only rows in this state; may be given again.",
        ),
        click.option("--dry-run", is_flag=True, help="Only say how many rows."),
        click.option("--yes", is_flag=True, help="Do not ask."),
        by_option,
        json_option,
    )
    return lambda command: reduce(lambda f, add: add(f), reversed(options), command)


@click.command()
@_options("retry")
def retry(**options: Any) -> None:
    """Try parked and retrying rows of FLAG again, at once.

    \b
    pending retry user.needs_welcome_email 42 43
    pending retry user.needs_welcome_email --where error~Timeout --dry-run
    pending retry user.needs_welcome_email --all --state parked
    """
    _steer("retry", steering.retry, **options)


@click.command()
@_options("mark")
def mark(**options: Any) -> None:
    """Mark rows of FLAG, idle ones too: its work is to be done for them.

    \b
    pending mark user.needs_welcome_email 42
    pending mark user.needs_welcome_email --where welcomed_at=
    """
    _steer("mark", steering.mark, **options)


@click.command()
@_options("unmark")
def unmark(**options: Any) -> None:
    """Take the marks of rows of FLAG back: there is nothing to be done for them.

    \b
    pending unmark user.needs_welcome_email 42
    pending unmark user.needs_welcome_email --where email~@example.com --dry-run
    """
    _steer("unmark", steering.unmark, **options)


@click.command()
@_options("park")
@click.option("--reason", default="", help="Replaces the error of the rows.")
def park(reason: str, **options: Any) -> None:
    """Let rows of FLAG wait until they are retried. Running ones are left alone.

    \b
    pending park user.needs_welcome_email 42 --reason "wrong address"
    pending park user.needs_welcome_email --all --state due
    """
    _steer("park", partial(steering.park, reason=reason), **options)


def _steer(  # noqa: PLR0913, PLR0917 (a command's options)
    verb: str,
    act: Verb,
    flag: PendingFlag,
    keys: tuple[str, ...],
    everything: bool,
    filters: tuple[str, ...],
    state: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    by: str,
    json: bool,
) -> None:
    rows = selection(
        flag, keys=keys, everything=everything, filters=filters, states=state
    )
    with in_database(flag):
        try:
            count = selected(verb, rows)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        if not dry_run:
            what = "1 row" if count == 1 else f"{count:,} rows"
            _confirm(f"{verb} {what} of {flag.label}?", rows, asks=not yes)
            count = _act(act, rows, by, count)
    _say(verb, rows, count, dry_run=dry_run, json=json)
    missed = len(set(rows.keys or ())) > count
    sys.exit(1 if missed else 0)


def _confirm(question: str, rows: Selection, *, asks: bool) -> None:
    if asks and rows.keys is None and sys.stdin.isatty():
        click.confirm(question, abort=True, err=True)


def _act(act: Verb, rows: Selection, by: str, expected: int) -> int:
    quiet = expected < _LONG or not sys.stderr.isatty()
    with Progress(console=console(stderr=True), disable=quiet) as bar:
        task = bar.add_task(rows.flag.label, total=expected)
        return act(rows, by=by, progress=lambda n: bar.advance(task, n))


def _say(verb: str, rows: Selection, count: int, *, dry_run: bool, json: bool) -> None:
    if json:
        as_json({"flag": rows.flag.label, verb: count, "dry_run": dry_run})
        return
    would = "would be " if dry_run else ""
    click.echo(f"{count:,} {would}{_PAST[verb]}")
    left = len(set(rows.keys or ())) - count
    if left > 0:
        click.echo(f"{left:,} left alone: not there, or in no state for that", err=True)
