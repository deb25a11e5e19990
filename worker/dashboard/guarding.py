"""Who may see and change things: headers, login, and no change that was not meant.

Each is ASGI middleware. A change needs three things: the browser says that it comes
from a page of ours, it is a POST, and it carries the secret of a cookie that no other
site can read or send. The first one alone stops other sites, also one that could plant
a cookie of its own here; so the secret is the browser's, needs no signature, and
outlives a restart of any number of processes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import logging
import secrets
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..settings import settings
from ..wording import plain

logger = logging.getLogger("pending.operator")

COOKIE = "pending_token"

_WRONG_PASSWORD_SECONDS = 0.5
_OPEN = "/healthz"  # a probe has no password, and learns nothing else
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self';"
    " script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": then a form's Origin would be "null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_PROXIES = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


class Headers:
    """Says to browsers what a page of ours may do: little."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                cached = "no-cache" if "etag" in headers else "no-store"
                headers.setdefault("Cache-Control", cached)
            await send(message)

        await self.app(scope, receive, with_headers)


class Login:
    """Asks for the user and the password; without them only this host is answered."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _path(scope) == _OPEN:
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        if settings.dashboard_user is None:
            refusal = _stranger(request)
        else:
            refusal = await _unknown(request)
        await (refusal or self.app)(scope, receive, send)


class Guard:
    """Lets a change through only if it was meant; and gives out the cookie for it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        if request.method not in {"GET", "HEAD"}:
            refusal = _forged(request)
            if refusal:
                await refusal(scope, receive, send)
                return
        scope["pending.token"] = request.cookies.get(COOKIE) or secrets.token_urlsafe(
            32
        )
        await self.app(scope, receive, send)


def token_of(request: HTTPConnection) -> str:
    """Return the secret that a form must carry."""
    token: str = request.scope["pending.token"]
    return token


def give_token(request: HTTPConnection, response: Response) -> None:
    """Set the cookie, for pages with forms."""
    if COOKIE not in request.cookies:
        response.set_cookie(
            COOKIE,
            token_of(request),
            path=request.scope.get("root_path") or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )


def has_token(request: HTTPConnection, given: str) -> bool:
    """Say whether a form carries the secret of the request's own cookie."""
    kept = request.cookies.get(COOKIE, "")
    return bool(kept) and hmac.compare_digest(kept.encode(), given.encode())


def operator_of(request: HTTPConnection) -> str:
    """Return who asks, for the log: by our login, or by that of the application that
    we are mounted in (Starlette's `request.user`, or WSGI's REMOTE_USER)."""
    scope = request.scope
    known = (
        scope.get("pending.user"),
        getattr(scope.get("user"), "display_name", ""),
        scope.get("wsgi_environ", {}).get("REMOTE_USER"),
    )
    return f"{next(filter(None, known), 'somebody')} (dashboard)"


def is_loopback(host: str) -> bool:
    """Say whether `host`, a name or an address, is this machine itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _stranger(request: Request) -> Response | None:
    """Refuse who is not on this host, or was sent here by a name that is not its."""
    name = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    client = request.client.host if request.client else "127.0.0.1"
    proxied = any(header in request.headers for header in _PROXIES)
    if is_loopback(client) and is_loopback(name) and not proxied:
        return None
    return PlainTextResponse(
        "Without DASHBOARD_USER and DASHBOARD_PASSWORD the dashboard answers this host"
        " alone, as http://localhost.\n",
        403,
    )


async def _unknown(request: Request) -> Response | None:
    user, password = _credentials(request.headers.get("authorization", ""))
    right_user, right_password = settings.dashboard_user, settings.dashboard_password
    same_user = hmac.compare_digest(user, (right_user or "").encode())
    same_password = hmac.compare_digest(password, (right_password or "").encode())
    if same_user and same_password:
        request.scope["pending.user"] = right_user
        return None
    if user or password:
        logger.warning("login refused user=%s", plain(user.decode(errors="replace")))
        await asyncio.sleep(_WRONG_PASSWORD_SECONDS)
    ask = {"WWW-Authenticate": 'Basic realm="pending", charset="UTF-8"'}
    return PlainTextResponse("A user and a password, please.\n", 401, ask)


def _credentials(header: str) -> tuple[bytes, bytes]:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return b"", b""
    try:
        user, _, password = base64.b64decode(encoded, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return b"", b""
    return user, password


def _forged(request: Request) -> Response | None:
    """Refuse what does not come from a page of ours, as the browser tells it. Every
    browser does: what tells nothing is a program, which needs the secret all the same.
    """
    site, origin = (request.headers.get(n) for n in ("sec-fetch-site", "origin"))
    if site == "same-origin" or site is origin is None:
        return None
    if site is None and urlsplit(origin).netloc == request.headers.get("host"):
        return None
    return PlainTextResponse("This was not sent by a page of the dashboard.\n", 403)
