"""How things are shown: for a terminal, for a pipe, as JSON.

Whatever comes from the database is untrusted: no character of it may drive the
terminal or break a line.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.states import State

from ..wording import jsonable, paragraph, plain

_WIDEST_ERROR = 60
_FOLDED = 20  # the least width of a column whose text is folded

#: How a state is set off from the others, on a terminal that has colours.
COLOURS = {
    State.DUE: "cyan",
    State.SCHEDULED: "blue",
    State.RUNNING: "green",
    State.RETRYING: "yellow",
    State.PARKED: "red",
    State.IDLE: "dim",
}


def console(*, stderr: bool = False) -> Console:
    """Return the terminal, or what stands for it; NO_COLOR is respected."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def moment(when: datetime | None) -> str:
    """Return an instant in the local time zone, to the second."""
    if when is None:
        return "–"
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table: with colours on a terminal, else aligned columns. On a terminal
    that is too narrow for it, print each row in some lines.

    A cell may be a `Text` with its style. Numbers stand at the right.
    """
    terminal = console()
    if not terminal.is_terminal:
        _print_columns(head, rows)
        return
    if _widest(head, rows) > terminal.width:
        for row in rows:
            terminal.print(_record(head, row))
        return
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(head):
        numeric = bool(rows) and all(_is_number(row[index]) for row in rows)
        grid.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        cells = (c if isinstance(c, Text) else Text(plain(c)) for c in row)
        grid.add_row(*cells)
    terminal.print(grid)


def error_cell(text: str | None) -> str:
    """Return an error's first words; in a pipe all of it."""
    line = plain((text or "").strip().replace("\n", " · "))
    if sys.stdout.isatty() and len(line) > _WIDEST_ERROR:
        return f"{line[: _WIDEST_ERROR - 1]}…"
    return line


class PlainFormatter(logging.Formatter):
    """Writes records as lines in which nothing drives the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return paragraph(super().format(record))


def as_json(value: Any) -> None:
    """Print `value` as JSON: instants in ISO 8601, lengths of time in seconds."""
    click.echo(json.dumps(value, default=jsonable, indent=2))


def _is_number(cell: object) -> bool:
    return str(cell).rstrip("+").replace(",", "").replace(".", "").isdecimal()


def _widest(head: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
    """Return how wide the columns are, side by side; the last one may be folded."""
    widths = [
        max(map(len, column))
        for column in zip(head, *[[plain(c) for c in row] for row in rows], strict=True)
    ]
    return sum(widths[:-1]) + min(widths[-1], _FOLDED) + 2 * len(widths[:-1])


def _record(head: Sequence[str], row: Sequence[object]) -> Text:
    cells = [c if isinstance(c, Text) else Text(plain(c)) for c in row]
    pairs = [Text(f"{name}=") + cell for name, cell in zip(head, cells, strict=True)]
    return Text(" ").join([cells[0], *pairs[1:]])


def _print_columns(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    lines = [list(head), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
