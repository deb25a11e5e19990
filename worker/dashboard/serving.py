"""A server for the dashboard alone: `pending dashboard`."""

from __future__ import annotations

import errno
import socket
import sys

import uvicorn

from ..settings import settings
from .application import app
from .guarding import is_loopback

_STOP_SECONDS = 3  # for requests under way
_LONGEST_REQUEST = 256 * 1024  # its head: a page of selected rows is in an address


def problem_of(host: str) -> str:
    """Return why the dashboard may not listen on `host`; nothing if it may."""
    if is_loopback(host) or settings.dashboard_user is not None:
        return ""
    return (
        f"DASHBOARD_USER and DASHBOARD_PASSWORD must be set to listen on {host};"
        " without them only this host may see it"
    )


def serve(host: str, port: int, *, prefix: str = "") -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        SystemExit: somebody else has the port.
    """
    config = uvicorn.Config(
        app,
        root_path=prefix,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Who asks is never taken from what a request says.
        proxy_headers=False,
        timeout_graceful_shutdown=_STOP_SECONDS,
        http="h11",
        h11_max_incomplete_event_size=_LONGEST_REQUEST,
    )
    listener = _listener(host, port)
    where = f"[{host}]" if ":" in host else host
    sys.stdout.write(f"dashboard on http://{where}:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    with listener:
        uvicorn.Server(config).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sys.exit(f"Somebody listens on {host}:{port} already; set PORT to another")
        sys.exit(f"{host}:{port} cannot be listened on: {error.strerror}")
