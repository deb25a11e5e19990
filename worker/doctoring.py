"""Is everything set up? Databases, Redis, clock, workers, handlers: a finding each.

Each says what to do. Nothing is changed, and nothing is waited for longer than 10 s.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import peewee
import pendulum
import redis

from models import PendingFlag
from models.connection import connected, masked
from models.counting import Numbers
from models.dialects import dialect_of
from models.heartbeats import Process
from models.inspecting import Finding, Level, inspected, inspected_operations
from models.instants import instant
from models.migrating import differences, waiting_for_flags
from models.operations import making, the_database

from .brokers import bells, broker
from .choosing import BELLS, SWEEPS, bells_of
from .failures import headline
from .handlers import all_handlers
from .overview import Overview, known_flags, looks_within, overview
from .redis_broker import BellBroker
from .settings import settings

_PATIENCE_SECONDS = 10
_LISTENED_SECONDS = 120  # dramatiq's heartbeats in Redis, by the workers' clocks
_CLOCKS_APART = timedelta(seconds=5)
_AT_THEM_LONG = timedelta(minutes=10)
_TICKS = 3
_OLDEST_REDIS = (6, 2)
_KEYS_A_SCAN, _SCANS = 1_000, 20


def examined() -> Iterator[Finding]:
    """Yield what was found, part by part; failures and warnings say what to do."""
    flags = known_flags()
    answering = []
    for one in _databases(flags):
        finding = _answers(one)
        yield finding
        if finding.level is Level.OK:
            answering.append(one)
            yield from _host_clock(one)
    for flag in flags:
        if flag.database in answering:
            yield from _inspected(flag)
    found: Overview | None = None
    waiting: list[str] = []
    if the_database() in answering:
        refused = _refused()
        yield from refused
        waiting = yield from _migrations()
        found = None if refused else overview(flags)
    working = found is not None and found.workers > 0
    yield from _bells(flags, workers=working)
    if found is not None:
        yield from _processes(flags, found, waiting)


def _databases(flags: list[PendingFlag]) -> list[peewee.Database]:
    return list(dict.fromkeys([the_database(), *(flag.database for flag in flags)]))


def _answers(one: peewee.Database) -> Finding:
    name = masked(str(one.database))
    answer: list[str] = []

    def ask() -> None:
        try:
            with connected(one):
                now = _now(one)
                answer.append(f"it answers; its clock says {now:%H:%M:%S} UTC")
        except Exception as error:  # noqa: BLE001 (whatever it is, it is the finding)
            answer.extend(("", headline(error)))

    if not _within(_PATIENCE_SECONDS, ask):
        answer = ["", f"no answer within {_PATIENCE_SECONDS} s"]
    if answer[0]:
        return Finding(Level.OK, "database", f"{name}: {answer[0]}")
    text = f"{name} does not answer: {answer[1]}"
    return Finding(Level.FAILURE, "database", text, "start it, or mend DATABASE_URL")


def _within(seconds: float, step: Callable[[], None]) -> bool:
    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def _now(one: peewee.Database) -> datetime:
    ((ms,),) = peewee.Select((), (dialect_of(one).now,)).bind(one).tuples()
    return instant(int(ms))


def _host_clock(one: peewee.Database) -> Iterator[Finding]:
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


def _refused() -> list[Finding]:
    with connected(the_database()):
        return list(inspected_operations())


def _migrations() -> Generator[Finding, None, list[str]]:
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


def _inspected(flag: PendingFlag) -> Iterator[Finding]:
    try:
        with connected(flag.database):
            yield from inspected(flag)
    except (peewee.DatabaseError, peewee.InterfaceError) as error:
        yield Finding(Level.FAILURE, flag.label, headline(error), "see the database")


def _bells(flags: list[PendingFlag], *, workers: bool) -> Iterator[Finding]:
    if isinstance(bells.place, BellBroker):
        yield from _redis(bells.place, flags, workers=workers)
    elif hasattr(bells.place, "connect"):
        yield _rabbitmq(bells.place)


def _rabbitmq(place: Any) -> Finding:
    name = type(bells.broker).__name__
    try:
        place.connect().close()
    except Exception as error:  # noqa: BLE001 (whatever it is, it is the finding)
        return Finding(
            Level.FAILURE,
            "rabbitmq",
            f"it does not answer: {headline(error)}; work begins a look later",
            "start it, or mend BROKER_URL" if bells.broker is broker else "start it",
        )
    return Finding(Level.OK, "rabbitmq", f"it answers; bells hang in a {name}")


def _redis(
    place: BellBroker, flags: list[PendingFlag], *, workers: bool
) -> Iterator[Finding]:
    client = place.client
    where = masked(settings.redis_url)
    if bells.broker is not broker:
        where = f"the one of your {type(bells.broker).__name__}"
    try:
        version = str(client.info("server")["redis_version"])
        yield from _redis_version(where, version)
        yield from _strangers(place, flags)
        if workers:
            yield from _listeners(place)
    except (redis.RedisError, OSError) as error:
        yield Finding(
            Level.FAILURE,
            "redis",
            f"{where} does not answer: {headline(error)}; work begins a look later",
            "start it, or mend REDIS_URL",
        )
    finally:
        client.close()


def _redis_version(where: str, version: str) -> Iterator[Finding]:
    if tuple(map(int, version.split(".")[:2])) < _OLDEST_REDIS:
        yield Finding(
            Level.FAILURE, "redis", f"{where} is {version}", "use 6.2 or newer"
        )
    else:
        yield Finding(Level.OK, "redis", f"{where} answers, version {version}")


def _strangers(place: BellBroker, flags: list[PendingFlag]) -> Iterator[Finding]:
    """Yield what another application has in our namespace."""
    name, client = place.namespace, place.client
    labels = {flag.label for flag in flags}
    own = {BELLS, SWEEPS, *map(bells_of, flags)}
    lists = [client.lrange(f"{name}:{queue}", 0, 255) for queue in sorted(own)]
    hanging = [_text(bell) for one in lists for bell in one]
    kicks = [bell.split("|")[1] for bell in hanging if bell.startswith("kick")]
    unknown = sorted({label for label in kicks if label not in labels})
    queues = sorted(_queues(client, name) - _own_queues() - own)
    what = [f"bells of {label}" for label in unknown] + [f"a queue {q}" for q in queues]
    if what:
        yield Finding(
            Level.WARNING,
            "redis",
            f"in the namespace {name} is {', '.join(what[:5])}: somebody else's?",
            "give each application a REDIS_NAMESPACE of its own, or name your modules"
            " in PENDING_MODULES",
        )


def _listeners(place: BellBroker) -> Iterator[Finding]:
    """Yield that live workers listen somewhere else, if they do."""
    recently = (time.time() - _LISTENED_SECONDS) * 1000
    name = place.namespace
    if not place.client.zcount(f"{name}:__heartbeats__", recently, "+inf"):
        yield Finding(
            Level.WARNING,
            "redis",
            f"workers are alive, but none listens in the namespace {name}:"
            " nobody hears what is rung here",
            "give workers, clock and application one REDIS_URL and REDIS_NAMESPACE",
        )


def _own_queues() -> set[str]:
    queues = {*bells.broker.get_declared_queues()}
    return {name for queue in queues for name in (queue, f"{queue}.DQ")}


def _queues(client: redis.Redis, namespace: str) -> set[str]:
    """Return the names of dramatiq's queues that are in the namespace."""
    prefix, cursor, found = f"{namespace}:", 0, set()
    for _ in range(_SCANS):
        cursor, keys = client.scan(cursor, match=f"{prefix}*", count=_KEYS_A_SCAN)
        found |= {_text(key)[len(prefix) :] for key in keys}
        if not cursor:
            break
    queues = {name.removesuffix(".msgs").removesuffix(".XQ") for name in found}
    return {name for name in queues if not name.startswith("__")}


def _text(key: bytes | str) -> str:
    return key.decode(errors="replace") if isinstance(key, bytes) else key


def _processes(
    flags: list[PendingFlag], found: Overview, waiting: list[str]
) -> Iterator[Finding]:
    if found.missing:
        make = "; ".join(making(found.missing))
        yield Finding(
            Level.WARNING,
            "tables of operating",
            f"{', '.join(found.missing)} are missing: no pauses, heartbeats, numbers;"
            " whether workers and a clock run is not known",
            "`pending migrate`" if waiting else make,
        )
        yield from _handlers(flags, found, set())
        return
    yield from _workers(found.processes)
    yield from _clock(found)
    live = {label for one in found.processes if one.looking for label in one.held}
    yield from _handlers(flags, found, live)
    yield from _pauses(found)


def _workers(processes: list[Process]) -> Iterator[Finding]:
    for one in processes:
        if one.alive:
            yield from _idle_or_full(one)
    looking = [one for one in processes if one.looking]
    if looking:
        threads = sum(one.threads for one in looking)
        yield Finding(Level.OK, "workers", f"{len(looking)} alive, {threads} threads")
    else:
        yield Finding(
            Level.FAILURE, "workers", "none is alive", "start `dramatiq worker`"
        )


def _idle_or_full(one: Process) -> Iterator[Finding]:
    name = f"process {one.pid} on {one.host}"
    if not one.looking:
        within = looks_within().total_seconds()
        yield Finding(
            Level.FAILURE,
            "workers",
            f"{name} lives, but has not looked for due rows for {within:.0f} s: it is"
            " stuck",
            "see its log, and restart it",
        )
    elif _is_full(one):
        minutes = _AT_THEM_LONG.total_seconds() / 60
        yield Finding(
            Level.WARNING,
            "workers",
            f"all {one.threads} threads of {name} have been at the same rows for"
            f" {minutes:.0f} min",
            "`pending list … --state running` shows them; a time_limit ends such",
        )


def _is_full(one: Process) -> bool:
    busy = 0 < one.threads <= sum(one.held.values())
    return busy and one.drained is not None and one.seen - one.drained > _AT_THEM_LONG


def _clock(found: Overview) -> Iterator[Finding]:
    swept = found.last_sweep
    if swept is None:
        text = "no worker has heard a clock yet"
    else:
        seconds = (found.at - swept).total_seconds()
        text = f"last heard {seconds:.0f} s ago"
    if swept is None or _ticks_since(swept, found.at) > _TICKS:
        yield Finding(
            Level.WARNING,
            "clock",
            f"{text}; due rows wait for each worker's own look",
            "start `periodiq worker`",
        )
    else:
        yield Finding(Level.OK, "clock", text)


def _ticks_since(last: datetime, now: datetime) -> int:
    """Return how many ticks of the clock are past since `last`; 4 may be more."""
    moment, ticks = pendulum.instance(last), 0
    while ticks <= _TICKS:
        moment = settings.sweep_cron.next_valid_date(moment)
        if moment > now:
            break
        ticks += 1
    return ticks


def _handlers(
    flags: list[PendingFlag], found: Overview, live: set[str]
) -> Iterator[Finding]:
    own = {handler.flag.label for handler in all_handlers()}
    standing = {one.label: one.numbers for one in found.flags}
    for flag in flags:
        if flag.label in live or not _has_work(standing.get(flag.label)):
            continue
        if flag.label in own and not live:
            continue  # then the workers are what is wrong
        where = "in any live worker" if live else "here"
        queue = "" if flag.queue == BELLS else f" -Q {flag.queue}"
        yield Finding(
            Level.FAILURE,
            flag.label,
            f"rows are pending, and there is no handler for them {where}"
            f" that listens to the queue {flag.queue}",
            f"start workers with its module: `dramatiq worker shop.jobs{queue}`",
        )


def _has_work(found: Numbers | None) -> bool:
    return bool(found and (found.due.n or found.scheduled.n or found.retrying.n))


def _pauses(found: Overview) -> Iterator[Finding]:
    pauses = {one.paused.flag: one.paused for one in found.flags if one.paused}
    for label, pause in pauses.items():
        yield Finding(
            Level.WARNING,
            "everything" if label == "*" else label,
            f"is paused by {pause.by}: {pause.reason or 'no reason given'}",
            f"`pending resume {'--all' if label == '*' else label}`",
        )
