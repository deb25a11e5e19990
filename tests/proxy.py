"""A proxy in front of a database server, that loses what it is told to lose.

To PostgreSQL's clients it looks like a pooler.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit


@dataclass
class Cut:
    """Drop the connection at the next request that holds `request`, once."""

    request: bytes
    answer_lost: bool  # the server gets the request, and the client no answer
    done: threading.Event


class Proxy:
    """Forwards to the server of `url`; `url` is where it listens itself.

    Attributes:
        requests: all that was sent to the server.
        held: set while something is not forwarded, see `hang`.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        folder = parse_qs(parts.query).get("host", [""])[0]
        default = 5432 if parts.scheme.startswith("postgres") else 3306
        self._socket = f"{folder}/.s.PGSQL.{parts.port or default}" if folder else ""
        self._server = (parts.hostname or "127.0.0.1", parts.port or default)
        self._listener = socket.create_server(("127.0.0.1", 0))
        user = parts.netloc.rpartition("@")[0]
        place = f"{user}@127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = urlunsplit((parts.scheme, place, parts.path, "", ""))
        self.requests = bytearray()
        self._cut: Cut | None = None
        self.held = threading.Event()
        self._flows = threading.Event()
        self._flows.set()
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def cut(self, request: bytes, *, answer_lost: bool) -> threading.Event:
        """Arm the proxy; the event is set when it has dropped a connection."""
        self._cut = Cut(request, answer_lost, threading.Event())
        return self._cut.done

    def hang(self) -> None:
        """Forward nothing more; `held` is set once there is something to forward."""
        self.held.clear()
        self._flows.clear()

    def flow(self) -> None:
        """Forward what was held, and what follows."""
        self._flows.set()

    def close(self) -> None:
        self.flow()
        self._listener.shutdown(socket.SHUT_RDWR)  # close() alone wakes nobody
        self._threads[0].join()
        _shut(*self._ends)
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._ends):
            end.close()

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = self._connected()
                self._ends += [client, server]
                doomed: list[Cut] = []
                self._start(self._to_server, client, server, doomed)
                self._start(self._to_client, client, server, doomed)

    def _connected(self) -> socket.socket:
        if not self._socket:
            return socket.create_connection(self._server)
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._socket)
        return server

    def _to_server(
        self, client: socket.socket, server: socket.socket, doomed: list[Cut]
    ) -> None:
        with _both_shut(client, server):
            while data := client.recv(65_536):
                self.requests += data
                if not self._flows.is_set():
                    self.held.set()
                    self._flows.wait()
                cut = self._cut
                if cut and cut.request in data:
                    self._cut = None
                    doomed.append(cut)
                    if not cut.answer_lost:
                        cut.done.set()
                        return
                server.sendall(data)

    def _to_client(
        self, client: socket.socket, server: socket.socket, doomed: list[Cut]
    ) -> None:
        with _both_shut(client, server):
            while data := server.recv(65_536):
                if doomed:
                    doomed[0].done.set()
                    return
                client.sendall(_with_a_key_of_its_own(data))


def _with_a_key_of_its_own(data: bytes) -> bytes:
    """Poolers make up the process and the secret by which a query is cancelled."""
    return re.sub(rb"(?s)(K\0\0\0\x0c).{8}(?=Z\0\0\0\x05I)", rb"\1made up!", data)


def _shut(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _both_shut(*ends: socket.socket) -> Iterator[None]:
    try:
        with contextlib.suppress(OSError):
            yield
    finally:
        _shut(*ends)


@contextlib.contextmanager
def proxied(url: str) -> Iterator[Proxy]:
    """Stand in front of the server for as long as the block lasts."""
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()
