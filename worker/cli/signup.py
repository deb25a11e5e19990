"""`pending signup`: create users who are to be welcomed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import click
from email_validator import EmailNotValidError, validate_email

import worker  # noqa: F401 (so that what is marked is kicked)
from models.connection import connected
from models.user import User

from ..wording import plain
from .asking import json_option
from .showing import as_json

_BATCH = 500  # users a transaction
_WIDEST = 300  # characters of a refusal
_LONG = 1_000  # lines from which on progress is shown

_TEXT: Any = click.File(encoding="utf-8-sig", errors="replace")

Line = tuple[int, str]


@click.command()
@click.argument("addresses", nargs=-1)
@click.option(
    "--file",
    "source",
    type=_TEXT,
    help="Read addresses from a file, one a line; - is standard input.",
)
@json_option
def signup(addresses: tuple[str, ...], source: IO[str] | None, json: bool) -> None:
    """Sign users up, each to be welcomed by e-mail.

    \b
    pending signup dan@example.com eve@example.com
    pending signup --file addresses.txt
    generate-addresses | pending signup -

    What is no address, or is signed up already, is reported with its line; all
    others go through. The status is 1 if any was refused.
    """
    if addresses == ("-",):
        addresses, source = (), _TEXT.convert("-", None, None)
    if bool(addresses) == (source is not None):
        raise click.UsageError("Give addresses, or a file of them.")
    lines = list(_lines(addresses if source is None else source))
    batches = [lines[i : i + _BATCH] for i in range(0, len(lines), _BATCH)]
    refused: list[Line] = []
    seen: set[str] = set()
    with connected(User._meta.database), _progress(len(lines)) as progress:
        for batch in batches:
            refused += _sign_up(batch, seen)
            progress.update(len(batch))
    _say(len(lines) - len(refused), sorted(refused), json=json)
    sys.exit(1 if refused else 0)


def _say(signed_up: int, refused: Sequence[Line], *, json: bool) -> None:
    if json:
        lines = [{"line": number, "problem": problem} for number, problem in refused]
        as_json({"signed_up": signed_up, "refused": lines})
        return
    for number, problem in refused:
        click.echo(f"line {number}: {plain(problem, most=_WIDEST)}", err=True)
    click.echo(f"{signed_up} signed up, {len(refused)} refused")


def _progress(length: int) -> Any:
    quiet = length < _LONG or not sys.stderr.isatty()
    return click.progressbar(
        length=length, label="Signing up", file=sys.stderr, hidden=quiet
    )


def _lines(source: Iterable[str]) -> Iterator[Line]:
    """Yield the lines that hold something, numbered from 1."""
    for number, line in enumerate(source, 1):
        if line.strip():
            yield number, line.strip()


def _sign_up(lines: Sequence[Line], seen: set[str]) -> Iterator[Line]:
    """Sign up one batch; yield the refused lines, each with its problem."""
    new: dict[str, Line] = {}
    for number, text in lines:
        if "\N{REPLACEMENT CHARACTER}" in text:
            yield number, f"{text}: not in UTF-8"
            continue
        try:
            email = validate_email(text, check_deliverability=False).normalized
        except EmailNotValidError as error:
            yield number, f"{text}: {error}"
            continue
        if email in seen:
            yield number, f"{text}: given twice"
        else:
            seen.add(email)
            new[email] = (number, text)
    for email in User.sign_up(list(new)):
        number, text = new[email]
        yield number, f"{text}: signed up already"
