"""What every peer does with its users, in plain psycopg: no ORM slows it down."""

from __future__ import annotations

import os
import threading
import time

import psycopg

_CREATE = (
    "CREATE TABLE users (id bigserial PRIMARY KEY,"
    " email varchar(255) NOT NULL, welcomed_at double precision)"
)
INSERT = "INSERT INTO users (email) VALUES (%s) RETURNING id"
LOAD = "SELECT id, email, welcomed_at FROM users WHERE id = %s"
SAVE = "UPDATE users SET welcomed_at = %s WHERE id = %s"

_of_thread = threading.local()


def connection() -> psycopg.Connection:
    """Return this thread's connection, which commits each statement by itself."""
    if not hasattr(_of_thread, "connection"):
        _of_thread.connection = psycopg.connect(
            os.environ["DATABASE_URL"], autocommit=True
        )
    return _of_thread.connection


def install() -> None:
    """Make the table; it is the same for all peers."""
    connection().execute(_CREATE)


def insert(email: str) -> int:
    """Sign a user up, in a transaction of its own."""
    return connection().execute(INSERT, [email]).fetchone()[0]


def welcome(key: int) -> None:
    """Do the work: load one user, do nothing, save when that was."""
    user = connection().execute(LOAD, [key]).fetchone()
    connection().execute(SAVE, [time.time(), user[0]])
