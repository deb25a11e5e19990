"""procrastinate: jobs deferred in the transaction of their data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

import procrastinate

from peers import users

_URL = os.environ["DATABASE_URL"]

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=_URL),
    import_paths=["peers.procrastinate_psycopg"],
)


@app.task(name="welcome")
def welcome(key: int) -> None:
    users.welcome(key)


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
