"""What the commands ask for: flags, keys, which rows, who asks."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
import peewee
from click.shell_completion import CompletionItem

from models import BadSetting, PendingFlag
from models.connection import connected
from models.errors import BadText, NoSuchFlag
from models.finding import filter_fields, filtered, flag_named, key_from_text
from models.states import State
from models.steering import Selection

from ..loading import load_modules
from ..overview import known_flags
from ..settings import settings

F = TypeVar("F", bound=Callable[..., Any])


def load() -> None:
    """Import the modules that PENDING_MODULES names, so that their flags are known.

    Raises:
        click.ClickException: one cannot be imported.
    """
    try:
        load_modules()
    except BadSetting as error:
        raise click.ClickException(str(error)) from None


class FlagType(click.ParamType):
    """A flag by its label, or by its name alone where that is one flag's."""

    name = "flag"

    def convert(self, value: Any, param: Any, ctx: Any) -> PendingFlag:
        if isinstance(value, PendingFlag):
            return value
        load()
        known = known_flags()
        alike = [flag for flag in known if flag.name == value]
        if len(alike) == 1:
            return alike[0]
        try:
            return flag_named(value, known)
        except NoSuchFlag as error:
            hint = "" if settings.modules else " (PENDING_MODULES names your modules)"
            self.fail(f"{error}{hint}", param, ctx)

    def shell_complete(
        self, ctx: Any, param: Any, incomplete: str
    ) -> list[CompletionItem]:
        load()
        labels = [flag.label for flag in known_flags()]
        return [CompletionItem(one) for one in labels if one.startswith(incomplete)]


FLAG = FlagType()


def keys_of_text(flag: PendingFlag, texts: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the keys that were typed.

    Raises:
        click.UsageError: one is no key of the flag's model.
    """
    try:
        return [key_from_text(flag, text) for text in texts]
    except BadText as error:
        raise click.UsageError(str(error)) from None


def checked(flag: PendingFlag, filters: Sequence[str]) -> tuple[str, ...]:
    """Return the filters that were typed.

    Raises:
        click.UsageError: one cannot be meant.
    """
    try:
        filtered(flag, filters)
    except BadText as error:
        raise click.UsageError(str(error)) from None
    return tuple(filters)


def selection(
    flag: PendingFlag,
    *,
    keys: Sequence[str],
    everything: bool,
    filters: Sequence[str],
    states: Sequence[str],
) -> Selection:
    """Return which rows were asked for: keys, or all that match.

    Raises:
        click.UsageError: neither, or both.
    """
    if bool(keys) == (everything or bool(filters)):
        raise click.UsageError("Give keys, or --all, or --where field=value.")
    return Selection(
        flag,
        keys=keys_of_text(flag, keys) if keys else None,
        states=tuple(State(state) for state in states),
        filters=checked(flag, filters),
    )


def operator() -> str:
    """Return the name of the person at the keyboard."""
    try:
        return os.environ.get("USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def json_option(command: F) -> F:
    """Add `--json`."""
    option = click.option("--json", "json", is_flag=True, help="Print JSON.")
    return option(command)


def by_option(command: F) -> F:
    """Add `--by`."""
    return click.option(
        "--by",
        default=operator,
        show_default="you",
        metavar="NAME",
        help="Who asks for it; for the log.",
    )(command)


def where_option(command: F) -> F:
    """Add `--where`."""
    return click.option(
        "--where",
        "filters",
        multiple=True,
        metavar="FIELD=VALUE",
        shell_complete=_complete_filter,
        help="Only rows whose field is VALUE, or with FIELD~TEXT contains TEXT. Fields"
        " are your model's, and error, attempts, crashes. May be given again.",
    )(command)


def state_option(
    states: Sequence[State] = tuple(State), **options: Any
) -> Callable[[F], F]:
    """Add `--state`, one of `states`; idle rows are not asked for."""
    choices = [state.value for state in states if state is not State.IDLE]
    return click.option("--state", type=click.Choice(choices), **options)


def in_database(flag: PendingFlag) -> Any:
    """Hold a connection to the flag's database."""
    return connected(flag.database)


def foreseen(error: Exception) -> bool:
    """Say whether the database says something against a command."""
    return isinstance(error, peewee.DatabaseError | peewee.InterfaceError)


def _complete_filter(ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
    load()
    # An option without its value keeps click from telling arguments from the rest.
    given = ctx.params.get("flag")
    words = [given.label if isinstance(given, PendingFlag) else "", *ctx.args]
    flags = [flag for flag in known_flags() if {flag.label, flag.name} & set(words)]
    names = [f"{name}=" for flag in flags[:1] for name in filter_fields(flag)]
    return [CompletionItem(one) for one in names if one.startswith(incomplete)]
