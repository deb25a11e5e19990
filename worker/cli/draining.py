"""`pending drain` and `pending sweep`: do the work here, or wake who does."""

from __future__ import annotations

import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import click
import peewee
from rich.progress import Progress

from models import PendingFlag
from models.claiming import is_due
from models.connection import connected
from models.counting import numbers

from ..events import Event
from ..failures import headline, remedy
from ..handlers import Handler, all_handlers, handler_named
from ..handling import drain
from ..hands import stopping
from ..hooks import told
from ..kicking import ring
from ..overview import known_flags
from ..pausing import is_paused
from ..reporting import Reporter
from ..tallying import tallies
from ..wording import plain
from .asking import FLAG, foreseen, json_option, load
from .showing import as_json, console

_TELLING_SECONDS = 10
_LOOK_SECONDS = 0.2
_ENDS = (Event.FINISHED, Event.RELEASED, Event.POSTPONED, Event.PARKED, Event.LOST)
_TROUBLE = (Event.RELEASED, Event.PARKED, Event.LOST)


@click.command("drain")
@click.argument("flags", nargs=-1, type=FLAG, metavar="[FLAG]...")
@json_option
def drain_command(flags: tuple[PendingFlag, ...], json: bool) -> None:
    """Do the work that is due, here and now, without Redis or workers.

    \b
    pending drain
    pending drain user.needs_welcome_email

    Without FLAG, that of all handlers. Ctrl-C ends it after the row at work. The
    status is 1 if a row failed, or a flag is paused.
    """
    load()
    handlers = _handlers(flags)
    ended: dict[str, Counter[Event]] = {}
    paused = [one.flag.label for one in handlers if is_paused(one.flag)]
    reporter = Reporter("other")
    with _ended_by_signals():
        for handler in handlers:
            if handler.flag.label not in paused and not stopping.is_set():
                ended[handler.flag.label] = _drain(handler)
    told(seconds=_TELLING_SECONDS)
    reporter.end()
    _say(ended, paused, json=json)
    if not flags:
        _say_what_is_left()
    troubled = any(ends[event] for ends in ended.values() for event in _TROUBLE)
    sys.exit(1 if troubled or paused or stopping.is_set() else 0)


@click.command("sweep")
@json_option
def sweep_command(json: bool) -> None:
    """Ring for every flag that has work due, so that workers look at once.

    \b
    pending sweep

    The status is 1 if Redis takes no bell, or a table cannot be read.
    """
    load()
    rung, refused, unread = ring_for_due()
    if json:
        as_json({"rung": rung, "refused": refused, "unread": unread})
    else:
        nothing = "nothing" if unread else "nothing: nothing is due"
        click.echo(f"rang for {', '.join(rung) or nothing}")
        if refused:
            click.echo(f"no bell for {', '.join(refused)}: its broker fails", err=True)
    sys.exit(1 if refused or unread else 0)


def ring_for_due() -> tuple[list[str], list[str], list[str]]:
    """Ring for the flags that have work due; return which were rung, which not, and of
    which that is not known."""
    states = [(flag, _is_due(flag)) for flag in known_flags()]
    due = [flag for flag, is_due in states if is_due]
    rung = [flag.label for flag in due if ring(flag)]
    refused = [flag.label for flag in due if flag.label not in rung]
    return rung, refused, [flag.label for flag, is_due in states if is_due is None]


def _is_due(flag: PendingFlag) -> bool | None:
    try:
        with connected(flag.database):
            return is_due(flag)
    except Exception as error:
        if not foreseen(error):
            raise
        problem = f"{plain(headline(error))}{remedy(error)}"
        click.echo(f"{flag.label}: {problem}", err=True)
        return None


def _handlers(flags: Sequence[PendingFlag]) -> list[Handler]:
    if not flags:
        return all_handlers()
    found = [(flag, handler_named(flag.label)) for flag in flags]
    for flag, handler in found:
        if handler is None:
            raise click.ClickException(
                f"{flag.label} has no handler here; name its module in PENDING_MODULES"
            )
    return [handler for _, handler in found if handler is not None]


def _say_what_is_left() -> None:
    """Rows of flags whose handlers nobody has imported are no trouble, but a riddle."""
    for flag in known_flags():
        # What cannot be read is `pending status`'s to tell.
        with suppress(peewee.DatabaseError, peewee.InterfaceError):
            with connected(flag.database):
                is_left = handler_named(flag.label) is None and is_due(flag)
            if is_left:
                text = "has no handler here; name its module in PENDING_MODULES"
                click.echo(f"{flag.label} is due, and {text}", err=True)


def _drain(handler: Handler) -> Counter[Event]:
    with connected(handler.flag.database):
        due = numbers(handler.flag).due
    with _progress(handler.flag.label, due.n):
        return drain(handler, ring=lambda flag: False)


@contextmanager
def _progress(label: str, total: int) -> Iterator[None]:
    """Show how many claims have ended, on a terminal."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_SECONDS):
            bar.update(task, completed=_done(label) - before)

    before = _done(label)
    with Progress(console=console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(label, total=total)
        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        try:
            yield
        finally:
            over.set()
            looking.join()
            bar.update(task, completed=_done(label) - before)


def _done(label: str) -> int:
    return sum(tallies.so_far(label, event.value) for event in _ENDS)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """End after the row at work; at once if it is asked for twice."""

    def end(signum: int, frame: Any) -> None:
        signal.signal(signum, before[signal.Signals(signum)])
        stopping.set()
        click.echo("ending after the row at work; once more: now", err=True)

    before = {s: signal.signal(s, end) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _say(ended: dict[str, Counter[Event]], paused: list[str], *, json: bool) -> None:
    if json:
        as_json(
            {
                "drained": {
                    label: {event.value: ends[event] for event in _ENDS}
                    for label, ends in ended.items()
                },
                "paused": paused,
            }
        )
        return
    for label, ends in ended.items():
        words = [f"{ends[event]:,} {event}" for event in _ENDS if ends[event]]
        click.echo(f"{label}: {', '.join(words) or 'nothing was due'}")
    for label in paused:
        click.echo(f"{label}: paused; `pending resume` ends that", err=True)
