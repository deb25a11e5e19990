"""Databases: whether each answers, and whether the tables are as flags need them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from datetime import UTC, datetime, timedelta

import peewee

from models import PendingFlag
from models.connection import connected, masked
from models.dialects import dialect_of
from models.inspecting import (
    Finding,
    Level,
    inspected,
    inspected_operations,
    longest_transaction,
)
from models.instants import instant
from models.migrating import differences, waiting_for_flags
from models.operations import the_database

from ..failures import headline
from ..patience import Patience
from ..settings import settings
from ..wording import span

_PATIENCE_SECONDS = 10
_CLOCKS_APART = timedelta(seconds=5)
_LONG = timedelta(minutes=10)  # for a transaction


def of(flags: list[PendingFlag]) -> list[peewee.Database]:
    return list(dict.fromkeys([the_database(), *(flag.database for flag in flags)]))


def answers(one: peewee.Database) -> Finding:
    name = masked(str(one.database))

    def ask() -> datetime:
        with connected(one):
            return _now(one)

    try:
        now = Patience[datetime](_PATIENCE_SECONDS).ask(name, ask)
    except TimeoutError:
        reason = f"no answer within {_PATIENCE_SECONDS} s"
    except Exception as error:  # noqa: BLE001 (whatever it is, it is the finding)
        reason = headline(error)
    else:
        text = f"{name}: it answers; its clock says {now:%H:%M:%S} UTC"
        return Finding(Level.OK, "database", text)
    text = f"{name} does not answer: {reason}"
    return Finding(Level.FAILURE, "database", text, "start it, or mend DATABASE_URL")


def _now(one: peewee.Database) -> datetime:
    ((ms,),) = peewee.Select((), (dialect_of(one).now,)).bind(one).tuples()
    return instant(int(ms))


def host_clock(one: peewee.Database) -> Iterator[Finding]:
    with connected(one):
        apart = datetime.now(UTC) - _now(one)
    if abs(apart) > _CLOCKS_APART:
        yield Finding(
            Level.WARNING,
            "clock of this host",
            f"it is {abs(apart).total_seconds():.0f} s"
            f" {'ahead of' if apart > timedelta(0) else 'behind'} the database's:"
            " sweeps may be dropped as too old",
            "synchronise it (NTP)",
        )


def long_transactions(one: peewee.Database) -> Iterator[Finding]:
    """Whose snapshot is old makes the database keep every version of the rows since:
    each look steps over the entries of all that was done meanwhile."""
    try:
        with connected(one):
            longest = longest_transaction(one)
    except (peewee.DatabaseError, peewee.InterfaceError):  # not for every role
        return
    if longest and longest[0] > _LONG:
        yield Finding(
            Level.WARNING,
            "database",
            f"a transaction has been open for {span(longest[0])}: nothing that was done"
            " since is cleaned up, so each look takes longer and longer",
            f"let it end, or end it: {longest[1]}",
        )


def refused() -> list[Finding]:
    with connected(the_database()):
        return list(inspected_operations())


def migrations() -> Generator[Finding, None, list[str]]:
    """Yield what was found, and return what waits to be applied."""
    try:
        with connected(the_database()):
            waiting, newer = differences(the_database())
            of_flags = waiting_for_flags(the_database(), settings.migrations)
    except (peewee.DatabaseError, peewee.InterfaceError) as error:
        remedy = "give the role the right to read the table"
        yield Finding(Level.WARNING, "migrations", headline(error), remedy)
        return []
    if waiting or of_flags:
        yield Finding(
            Level.WARNING,
            "migrations",
            f"not applied yet: {', '.join([*waiting, *of_flags])}",
            "`pending migrate`",
        )
    if newer:
        yield Finding(
            Level.WARNING,
            "migrations",
            f"applied, and not known here: {', '.join(newer)}; this code is older than"
            " the database",
            "run the version that has them",
        )
    if not waiting and not newer:
        yield Finding(Level.OK, "migrations", "all are applied")
    return waiting


def inspected_flag(flag: PendingFlag) -> Iterator[Finding]:
    try:
        with connected(flag.database):
            yield from inspected(flag)
    except (peewee.DatabaseError, peewee.InterfaceError) as error:
        yield Finding(Level.FAILURE, flag.label, headline(error), "see the database")
