"""Where the bells hang: whether it answers, and whether it is this application's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import redis

from models import PendingFlag
from models.connection import masked
from models.inspecting import Finding, Level

from ..brokers import bells, broker
from ..choosing import BELLS, SWEEPS, bells_of
from ..failures import headline
from ..redis_broker import BellBroker
from ..settings import settings

_LISTENED_SECONDS = 120  # dramatiq's heartbeats in Redis, by the workers' clocks
_OLDEST_REDIS = (6, 2)
_KEYS_A_SCAN, _SCANS = 1_000, 20


def examined(flags: list[PendingFlag], *, workers: bool) -> Iterator[Finding]:
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
