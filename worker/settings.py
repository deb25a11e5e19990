"""The environment, read once, as one frozen object.

`DATABASE_URL` is read where the database is made, in `models`.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parseaddr
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import pendulum
import redis
from periodiq import CronSpec, cron

from models import BadSetting, example
from models.connection import VAR, masked

T = TypeVar("T")

#: The embedded server's socket, where every command looks when REDIS_URL is unset.
#: The path of a Unix socket has at most 103 bytes (macOS; 107 on Linux).
SOCKET = VAR / "valkey.sock"
if len(bytes(SOCKET)) > 103:  # noqa: PLR2004
    _folder = hashlib.sha1(bytes(VAR), usedforsecurity=False).hexdigest()
    SOCKET = Path(tempfile.gettempdir()) / f"pending-{_folder[:16]}.sock"

_NOBODY = "Pending <pending@localhost>"
_FEW_TICKS = 60  # so many show every pattern of minutes


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says.

    Attributes:
        broker_url: BROKER_URL, `amqp://…` or `amqps://…`: the bells hang in RabbitMQ.
            None: in Redis.
        redis_url: REDIS_URL, where the bells hang. Default: the embedded server's
            socket under `var/` if it is there, else `redis://127.0.0.1:6379/0`.
        redis_namespace: REDIS_NAMESPACE, the prefix of all keys: one for each
            application that shares a Redis. Default `dramatiq`.
        lease: LEASE_SECONDS, how long a crashed worker keeps its rows from the
            others. Renewed while a handler runs. Default 30 s, at least 1 s.
        kicks: PENDING_KICKS, "0": marks ring no bells, and no thread of a process that
            marks reports; workers find the rows all the same. Default yes.
        sweep_every: SWEEP_SECONDS, how often each worker process looks for due
            rows by itself. Default 5 s, at least 0.1 s.
        sweep_cron: SWEEP_CRON, when the clock rings for all flags that have work
            due; five cron fields or `@hourly` and the like. Default: each minute.
        sweep_expires: two thirds of the shortest time between two sweeps: one
            that was not heard by then is dropped, the next comes soon enough.
        smtp_url: SMTP_URL, `smtp://user:password@host:587` (STARTTLS) or
            `smtps://…` (TLS). None: mails become files under `var/outbox/`. It and
            the next are the example's, and not looked at without it.
        mail_from: MAIL_FROM, the sender of mails.
        modules: PENDING_MODULES, with your models and handlers, separated by commas:
            what the command `pending` imports. Default: none but the example.
        migrations: PENDING_MIGRATIONS, the folder of your migrations, which `pending
            migrate` runs. Default `pending_migrations`.
        log_format: LOG_FORMAT, "text" (the default) or "json": an object a line.
        dashboard_host: DASHBOARD_HOST, where `pending dashboard` listens. Default
            127.0.0.1; others only with a user and a password.
        dashboard_port: PORT, on which; default 8008.
        dashboard_user, dashboard_password: DASHBOARD_USER and DASHBOARD_PASSWORD,
            what the dashboard asks for. Default None: it answers this host alone.
        dashboard_read_only: DASHBOARD_READ_ONLY, "1": it changes nothing. Default no.
    """

    broker_url: str | None
    redis_url: str
    redis_namespace: str
    kicks: bool
    lease: timedelta
    sweep_every: timedelta
    sweep_cron: CronSpec
    sweep_expires: timedelta
    smtp_url: str | None
    mail_from: str
    modules: tuple[str, ...]
    migrations: Path
    log_format: str
    dashboard_host: str
    dashboard_port: int
    dashboard_user: str | None
    dashboard_password: str | None = field(repr=False)
    dashboard_read_only: bool


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Return the settings that `environment` holds.

    Raises:
        BadSetting: a value cannot be used.
    """

    def read(name: str, parse: Callable[[str, str], T], default: str) -> T:
        return parse(name, environment.get(name) or default)

    mails = environment if example.is_wanted() else {}
    spec = read("SWEEP_CRON", _cron, "* * * * *")
    return Settings(
        broker_url=read("BROKER_URL", _amqp_url, "") or None,
        redis_url=read("REDIS_URL", _redis_url, _local_redis()),
        redis_namespace=read("REDIS_NAMESPACE", _text, "dramatiq"),
        kicks=read("PENDING_KICKS", _truth, "yes"),
        lease=read("LEASE_SECONDS", _at_least(1), "30"),
        sweep_every=read("SWEEP_SECONDS", _at_least(0.1), "5"),
        sweep_cron=spec,
        sweep_expires=_shortest_gap("SWEEP_CRON", spec) * 2 / 3,
        smtp_url=_smtp_url("SMTP_URL", mails.get("SMTP_URL") or "") or None,
        mail_from=_sender("MAIL_FROM", mails.get("MAIL_FROM") or _NOBODY),
        modules=read("PENDING_MODULES", _modules, ""),
        migrations=read("PENDING_MIGRATIONS", _path, "pending_migrations"),
        log_format=read("LOG_FORMAT", _log_format, "text"),
        dashboard_host=read("DASHBOARD_HOST", _text, "127.0.0.1"),
        dashboard_port=read("PORT", _port, "8008"),
        dashboard_user=read("DASHBOARD_USER", _user(environment), "") or None,
        dashboard_password=read("DASHBOARD_PASSWORD", _text, "") or None,
        dashboard_read_only=read("DASHBOARD_READ_ONLY", _truth, "no"),
    )


def _modules(name: str, value: str) -> tuple[str, ...]:
    modules = tuple(part.strip() for part in value.split(",") if part.strip())
    for module in modules:
        if not all(part.isidentifier() for part in module.split(".")):
            raise BadSetting(
                name, f"{module!r} is no module; write shop.models,shop.jobs"
            )
    return modules


def _port(name: str, value: str) -> int:
    if not value.isdecimal() or not int(value) < 2**16:
        raise BadSetting(name, f"{value!r} is no port; write a number up to 65535")
    return int(value)


def _user(environment: Mapping[str, str]) -> Callable[[str, str], str]:
    def parse(name: str, value: str) -> str:
        if bool(value) != bool(environment.get("DASHBOARD_PASSWORD")):
            raise BadSetting(name, "set both, DASHBOARD_USER and DASHBOARD_PASSWORD")
        if ":" in value:
            raise BadSetting(
                name, "a user's name has no colon; browsers cannot send it"
            )
        return value

    return parse


def _truth(name: str, value: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False}
    truth = {**words, "no": False}.get(value.lower())
    if truth is None:
        raise BadSetting(name, f"{value!r} is neither yes nor no; write 1 or 0")
    return truth


def _log_format(name: str, value: str) -> str:
    if value not in {"text", "json"}:
        raise BadSetting(name, f"{value!r} is no format; write text or json")
    return value


def _sender(name: str, value: str) -> str:
    if "@" not in parseaddr(value)[1]:
        raise BadSetting(
            name, f"{value!r} is no sender; write name@host or Name <name@host>"
        )
    return value


def _text(name: str, value: str) -> str:
    return value


def _path(name: str, value: str) -> Path:
    return Path(value)


def _redis_url(name: str, value: str) -> str:
    try:
        redis.ConnectionPool.from_url(value)
    except ValueError:
        raise BadSetting(
            name,
            f"{masked(value)!r} is no Redis URL;"
            " write redis://host:6379/0 or unix:///path",
        ) from None
    return value


def _amqp_url(name: str, value: str) -> str:
    if value and not re.match(r"amqps?://[^/]", value):
        raise BadSetting(
            name,
            f"{masked(value)!r} is no RabbitMQ URL;"
            " write amqp://user:password@host:5672/ (Redis has REDIS_URL)",
        )
    return value


def _smtp_url(name: str, value: str) -> str:
    try:
        parts = urlsplit(value)
        if value and (parts.scheme not in {"smtp", "smtps"} or parts.port == 0):
            raise ValueError
    except ValueError:  # also of a port that is no number
        raise BadSetting(
            name,
            f"{masked(value)!r} is no SMTP URL; write smtp://user:password@host:587",
        ) from None
    return value


def _local_redis() -> str:
    return f"unix://{SOCKET}" if SOCKET.exists() else "redis://127.0.0.1:6379/0"


def _at_least(least: float) -> Callable[[str, str], timedelta]:
    def parse(name: str, value: str) -> timedelta:
        try:
            seconds = float(value)
            if not least <= seconds < timedelta.max.total_seconds():
                raise ValueError
        except ValueError:
            raise BadSetting(
                name, f"{value!r} is no number of seconds from {least:g} on"
            ) from None
        return timedelta(seconds=seconds)

    return parse


def _cron(name: str, value: str) -> CronSpec:
    try:
        spec = cron(value)
        fields = value.split()
        if len(fields) != (1 if value.strip().startswith("@") else 5):
            raise ValueError
        for values, most in zip(spec.astuple(), (59, 23, 31, 12, 7), strict=True):
            if not values or max(values) > most:
                raise ValueError
    except (ValueError, LookupError):
        raise BadSetting(
            name, f"{value!r} is no cron spec; write five fields, as in '*/5 * * * *'"
        ) from None
    if {0, 7} & set(spec.dow):
        # periodiq counts Sunday as 0 when it plans and as 7 when it checks.
        spec.setup(None, None, None, None, sorted({0, 7, *spec.dow}))
        spec.parsed_from = value
    return spec


def _shortest_gap(name: str, spec: CronSpec) -> timedelta:
    """Return the shortest time between any two of the next few ticks of `spec`."""
    ticks: list[pendulum.DateTime] = []
    moment = pendulum.now("UTC")
    last = moment.add(years=9)  # 29 February may be eight years away
    while len(ticks) <= _FEW_TICKS and moment < last:
        moment = spec.next_valid_date(moment)
        if spec.validate(moment):
            ticks.append(moment)
    gaps = [later - tick for tick, later in itertools.pairwise(ticks)]
    if not gaps:
        raise BadSetting(name, f"'{spec}' never comes")
    return min(timedelta(seconds=gap.total_seconds()) for gap in gaps)


settings = settings_from(os.environ)
