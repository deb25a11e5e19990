"""`pending pause` and `pending resume`: hold a flag back, or all of them."""

from __future__ import annotations

import re
import sys
from datetime import datetime, timedelta
from typing import Any

import click

from models import PendingFlag
from models.connection import connected
from models.instants import instant
from models.operations import ALL, now, the_database
from models.pausing import pauses

from ..pausing import pause, resume
from ..wording import plain
from .asking import FLAG, by_option, json_option
from .draining import ring_for_due
from .showing import as_json, moment

_LENGTH = re.compile(r"(\d+)\s*(s|min|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days"}


@click.command("pause")
@click.argument("flag", type=FLAG, required=False)
@click.option("--all", "everything", is_flag=True, help="All flags, new ones too.")
@click.option("--until", metavar="TIME", help="30min, 2h, 3d, 18:00, 2030-01-31T18:00.")
@click.option("--reason", default="", help="For those who wonder.")
@by_option
@json_option
def pause_command(  # noqa: PLR0913, PLR0917 (a command's options)
    flag: PendingFlag | None,
    everything: bool,
    until: str | None,
    reason: str,
    by: str,
    json: bool,
) -> None:
    """Let workers claim no rows of FLAG. Rows in hand are finished.

    \b
    pending pause user.needs_welcome_email --until 2h --reason "mail server moves"
    pending pause --all --reason "restored backup"     (before workers are started)

    It is kept in the database, and obeyed within seconds.
    """
    label = _label(flag, everything)
    with connected(the_database()):
        end = None if until is None else _end(until)
        before = [one for one in pauses() if one.flag == label]
        pause(label, until=end, reason=reason, by=by)
    for one in before:
        said = plain(one.reason) or "no reason given"
        click.echo(f"in place of the pause by {plain(one.by)}: {said}", err=True)
    if json:
        as_json({"flag": label, "paused": True, "until": end})
    else:
        click.echo(f"{_named(label)} paused until {moment(end) if end else 'resumed'}")


@click.command("resume")
@click.argument("flag", type=FLAG, required=False)
@click.option("--all", "everything", is_flag=True, help="Whatever is paused.")
@by_option
@json_option
def resume_command(
    flag: PendingFlag | None, everything: bool, by: str, json: bool
) -> None:
    """Let workers claim rows of FLAG again.

    \b
    pending resume user.needs_welcome_email
    pending resume --all

    The status is 1 if nothing was paused, or it still is (by `pause --all`).
    """
    label = _label(flag, everything)
    with connected(the_database()):
        labels = [one.flag for one in pauses()] if label == ALL else [label]
        resumed = [one for one in labels if resume(one, by=by)]
        still = [one for one in pauses() if one.flag in {label, ALL}]
    if resumed and not still:
        ring_for_due()
    if json:
        as_json({"resumed": resumed, "paused": bool(still)})
    else:
        for name in resumed or ["nothing"]:
            click.echo(f"{_named(name)} resumed")
        for one in still:
            click.echo(
                f"still paused by {plain(one.by)}: pending resume --all", err=True
            )
    sys.exit(0 if resumed and not still else 1)


def _label(flag: PendingFlag | None, everything: bool) -> str:
    if (flag is not None) == everything:
        raise click.UsageError("Give a flag, or --all.")
    return ALL if flag is None else flag.label


def _named(label: str) -> str:
    return "everything" if label == ALL else label


def _end(text: str) -> datetime:
    """Return the instant that was typed: a length from now by the database's clock, a
    time of day, or a date and a time, local where no zone is given."""
    moment_of_database = instant(now())
    length = _LENGTH.fullmatch(text.strip())
    if length:
        span: dict[str, Any] = {_UNITS[length[2]]: int(length[1])}
        return moment_of_database + timedelta(**span)
    try:
        end = _time_of_day(text) or datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise click.UsageError(
            f"{text!r} is no time; write 30min, 2h, 3d, 18:00 or 2030-01-31T18:00"
        ) from None
    if end <= moment_of_database:
        raise click.UsageError(f"{text!r} is over.")
    return end


def _time_of_day(text: str) -> datetime | None:
    if not re.fullmatch(r"\d\d:\d\d", text):
        return None
    here = datetime.now().astimezone()
    hour, minute = map(int, text.split(":"))
    today = here.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return today if today > here else today + timedelta(days=1)
