"""PgQueuer on asyncpg: one connection for the queue, a pool for the work."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from peers import users

_URL = os.environ["DATABASE_URL"]
_CONNECTIONS = 8
_INSERT, _LOAD = (s.replace("%s", "$1") for s in (users.INSERT, users.LOAD))
_SAVE = users.SAVE.replace("%s", "$1", 1).replace("%s", "$2")


@asynccontextmanager
async def main() -> AsyncIterator[PgQueuer]:
    """What `pgq run` runs."""
    queue = PgQueuer.from_asyncpg_connection(await asyncpg.connect(_URL))
    pool = await asyncpg.create_pool(_URL, min_size=_CONNECTIONS, max_size=_CONNECTIONS)

    @queue.entrypoint("welcome")
    async def welcome(job: Job) -> None:
        async with pool.acquire() as connection:
            user = await connection.fetchrow(_LOAD, int(job.payload))
            await connection.execute(_SAVE, time.time(), user["id"])

    yield queue
    await pool.close()


def install() -> None:
    users.install()
    for command in ("install", "autovac"):
        subprocess.run(
            ["pgq", "--pg-dsn", _URL, command], check=True, capture_output=True
        )


async def enqueue(emails: Iterable[str], committed: Callable[[], None]) -> None:
    connection = await asyncpg.connect(_URL)
    queries = Queries(AsyncpgDriver(connection))
    for email in emails:
        async with connection.transaction():
            key = await connection.fetchval(_INSERT, email)
            await queries.enqueue("welcome", str(key).encode())
        committed()


async def bulk(keys: Sequence[int]) -> None:
    queries = Queries(AsyncpgDriver(await asyncpg.connect(_URL)))
    many = len(keys)
    payloads = [str(key).encode() for key in keys]
    await queries.enqueue(["welcome"] * many, payloads, [0] * many)
