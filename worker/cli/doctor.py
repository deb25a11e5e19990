"""`pending doctor`: is everything set up?"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click
from rich.text import Text

from models.inspecting import Finding, Level

from ..doctoring import examined
from ..wording import plain
from .asking import load
from .showing import as_json, console

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILURE: "red"}


@click.command()
@click.option("--check", is_flag=True, help="Print nothing: the status tells.")
@click.option("--json", "json", is_flag=True, help="Print JSON.")
def doctor(check: bool, json: bool) -> None:
    """Look whether databases, Redis, workers and clock are as they should be.

    \b
    pending doctor
    pending doctor --check || alert        (a probe)

    One line each: ok, warning or failure, and what to do. The status is 1 if there
    is any failure.
    """
    found = []
    for finding in _findings():
        found.append(finding)
        if not check and not json:
            _print(finding)
    if json:
        as_json(
            [
                {
                    "level": one.level.value,
                    "subject": one.subject,
                    "text": one.text,
                    "remedy": one.remedy or None,
                }
                for one in found
            ]
        )
    sys.exit(1 if any(one.level is Level.FAILURE for one in found) else 0)


def _findings() -> Iterator[Finding]:
    try:
        load()
    except click.ClickException as error:
        remedy = "mend the module, or PENDING_MODULES"
        yield Finding(Level.FAILURE, "modules", error.message, remedy)
    yield from examined()


def _print(finding: Finding) -> None:
    line = Text(f"{finding.level:8}", style=_COLOURS[finding.level])
    line.append(f"{plain(finding.subject)}: {plain(finding.text)}", style="default")
    if finding.remedy:
        line.append(f" → {plain(finding.remedy)}", style="bold")
    console().print(line, soft_wrap=True)
