"""`pending status`: is anything late, is anything stuck?"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any

import click
from rich.text import Text

from models.pausing import Paused
from models.states import State

from ..overview import Overview, Standing, overview, to_json
from ..wording import plain, span
from .asking import FLAG, json_option, load
from .showing import COLOURS, as_json, console, moment, table

_STATES = [state for state in State if state is not State.IDLE]
_HEAD = ("flag", "due", "oldest", "scheduled", "running", "retrying", "parked")
_PACE = ("finished/min", "wait p50", "wait p95", "workers")


@click.command()
@click.argument("flags", nargs=-1, type=FLAG, metavar="[FLAG]...")
@click.option("--watch", is_flag=True, help="Show it again and again.")
@click.option(
    "--every",
    type=click.FloatRange(0.2),
    default=2,
    show_default=True,
    metavar="SECONDS",
    help="How often, with --watch.",
)
@json_option
def status(flags: tuple[Any, ...], watch: bool, every: float, json: bool) -> None:
    """Show how many rows of each flag are in which state, and how fast it goes.

    \b
    pending status
    pending status user.needs_welcome_email --watch
    pending status --json | jq '.flags[] | select(.due > 100) | .flag'

    Numbers with a + are at least so many. The status is 1 if a flag's table cannot
    be read.
    """
    load()
    found = _shown(flags, json)
    with suppress(KeyboardInterrupt):
        while watch:
            sys.stdout.flush()
            time.sleep(every)
            if console().is_terminal:
                click.clear()
            found = _shown(flags, json)
    sys.exit(1 if any(one.problem for one in found.flags) else 0)


def _shown(flags: tuple[Any, ...], json: bool) -> Overview:
    found = overview(flags or None)
    as_json(to_json(found)) if json else _print(found)
    return found


def _print(found: Overview) -> None:
    readable = [one for one in found.flags if one.numbers]
    table(
        (*_HEAD, *(() if found.missing else _PACE)),
        [_cells(one, paces=not found.missing) for one in readable],
    )
    for line in _notes(found):
        click.echo(line)


def _cells(one: Standing, *, paces: bool) -> list[object]:
    assert one.numbers
    numbers = one.numbers
    cells: list[object] = [Text(plain(one.label), style="bold")]
    cells += [_amount(one, state) for state in _STATES]
    cells.insert(2, span(numbers.oldest))
    if paces and one.pace:
        cells += [
            f"{one.pace.finished:,.1f}",
            span(one.pace.wait.quantile(0.5)),
            span(one.pace.wait.quantile(0.95)),
            str(one.workers),
        ]
    return cells


def _amount(one: Standing, state: State) -> Text:
    amount = one.numbers.of(state) if one.numbers else None
    return Text(str(amount), style=COLOURS[state] if amount and amount.n else "dim")


def _notes(found: Overview) -> list[str]:
    notes = []
    if not found.flags:
        notes.append("No flags: PENDING_MODULES names the modules of your models.")
    for one in found.flags:
        if one.problem:
            notes.append(f"{one.label}: {plain(one.problem)}")
        if one.paused and not found.paused:
            notes.append(_paused(one.label, one.paused))
    if found.paused:
        notes.append(_paused("everything", found.paused))
    if found.missing:
        return [*notes, "No workers, pauses and paces: run `pending migrate` for them."]
    swept = found.last_sweep
    heard = f"{span(found.at - swept)} ago" if swept else "never"
    threads = sum(p.threads for p in found.processes if p.looking)
    notes.append(f"{found.workers} workers, {threads} threads; last sweep {heard}")
    return notes


def _paused(what: str, pause: Paused) -> str:
    until = f" until {moment(pause.until)}" if pause.until else ""
    why = f": {plain(pause.reason)}" if pause.reason else ""
    return f"{what} is paused by {plain(pause.by)}{until}{why}"
