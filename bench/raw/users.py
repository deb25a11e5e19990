"""The references: a flag in the row and hand-written SQL, without any safety."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from peers import users

_FLAG = "ALTER TABLE users ADD COLUMN needs_welcome boolean NOT NULL DEFAULT false"
_INDEX = "CREATE INDEX ON users (id) WHERE needs_welcome"
_INSERT = "INSERT INTO users (email, needs_welcome) VALUES (%s, true)"

#: Locks the next rows of those that are to be welcomed.
TAKE = (
    "SELECT id, email, welcomed_at FROM users WHERE needs_welcome"
    " ORDER BY id LIMIT {} FOR UPDATE SKIP LOCKED"
)
SAVE = "UPDATE users SET welcomed_at = %s, needs_welcome = false WHERE id = %s"


def install() -> None:
    users.install()
    for statement in (_FLAG, _INDEX):
        users.connection().execute(statement)


def enqueue(emails: Iterable[str], committed: Callable[[], None]) -> None:
    for email in emails:
        users.connection().execute(_INSERT, [email])
        committed()


def bulk(keys: Sequence[int]) -> None:
    users.connection().execute("UPDATE users SET needs_welcome = true")
