"""procrastinate: jobs deferred in the transaction of their data."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence

import procrastinate
from psycopg_pool import AsyncConnectionPool

from peers import users

_URL = os.environ["DATABASE_URL"]

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=_URL),
    import_paths=["peers.procrastinate_psycopg"],
)


pool = AsyncConnectionPool(
    _URL, min_size=8, max_size=8, kwargs={"autocommit": True}, open=False
)


@app.task(name="welcome")
async def welcome(key: int) -> None:
    await pool.open()  # nothing, from the second time on
    async with pool.connection() as connection:
        user = await (await connection.execute(users.LOAD, [key])).fetchone()
        await connection.execute(users.SAVE, [time.time(), user[0]])


def install() -> None:
    users.install()
    with app.open():
        app.schema_manager.apply_schema()


def enqueue(emails: Iterable[str], committed: Callable[[], None]) -> None:
    with app.open():
        connection = users.connection()
        deferrer = welcome.configure(connection=connection)
        for email in emails:
            with connection.transaction():
                deferrer.defer(key=users.insert(email))
            committed()


def bulk(keys: Sequence[int]) -> None:
    with app.open():
        welcome.batch_defer(*({"key": key} for key in keys))
