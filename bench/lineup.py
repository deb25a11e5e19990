"""Who is measured: this project, its peers, and the references in raw SQL."""

from __future__ import annotations

import inspect
import signal

from system import Kind


def _ours(name: str, handler: str, *, processes: int = 2, sqlite: bool = False) -> Kind:
    worker = f"dramatiq worker {handler} --processes {processes}"
    return Kind(name, "ours.marking", (worker,), sqlite=sqlite)


OURS = _ours("this project", "ours.assigning")

#: Other handlers of ours, measured draining only.
ATOMIC = _ours("ours, atomic=True", "ours.atomic")
COMMITTING = _ours("ours, handler commits", "ours.committing")
BATCHING = _ours("ours, batch=500", "ours.batching")
AWAITING = _ours("ours, async, 50 ms each", "ours.awaiting", processes=1)
SQLITE = _ours("ours, atomic=True, SQLite", "ours.atomic", sqlite=True)

DRAMATIQ = Kind(
    "dramatiq + Redis",
    "peers.dramatiq_redis",
    ("dramatiq peers.dramatiq_redis --processes 2 --threads 8",),
)
CELERY = Kind(
    "Celery + Redis",
    "peers.celery_redis",
    tuple(
        "celery -A peers.celery_redis worker --pool threads --concurrency 8"
        f" --hostname bench{number}@%h"
        for number in (1, 2)
    ),
    part=0.25,
)
HUEY = Kind(
    "Huey + Redis",
    "peers.huey_redis",
    ("huey_consumer peers.huey_redis.huey --workers 8 --quiet",) * 2,
    ends_by=signal.SIGINT,
)
PROCRASTINATE = Kind(
    "procrastinate",
    "peers.procrastinate_psycopg",
    ("procrastinate --app peers.procrastinate_psycopg.app worker --concurrency 8",) * 2,
    part=0.25,
)
PGQUEUER = Kind(
    "PgQueuer (asyncpg)",
    "peers.pgqueuer_asyncpg",
    ("pgq run peers.pgqueuer_asyncpg:main --batch-size 100 --log-level WARNING",) * 2,
)
PEERS = (DRAMATIQ, CELERY, HUEY, PROCRASTINATE, PGQUEUER)

RAW_JOBS = Kind("raw SQL, a commit a job", "raw.users", ("python -m raw.worker job",))
RAW_CLAIMS = Kind(
    "raw SQL, claim 100, UPDATE each", "raw.users", ("python -m raw.worker claim",)
)
RAW_BATCHES = Kind(
    "raw SQL, UPDATE of 1,000", "raw.users", ("python -m raw.worker batch",)
)


VARIANTS = (ATOMIC, COMMITTING, BATCHING, AWAITING, SQLITE)
_NEEDS = {BATCHING: "batch", AWAITING: "concurrency"}


def variants() -> list[Kind]:
    """Our other handlers, as far as `@handles` has the option that they need."""
    from worker import handles  # noqa: PLC0415 (reads the environment)

    options = inspect.signature(handles).parameters
    return [kind for kind in VARIANTS if _NEEDS.get(kind, "flag") in options]
