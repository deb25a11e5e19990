"""Pages from templates. All text is escaped; nothing of a page is marked as safe."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from models.states import State

from ..settings import settings
from ..wording import paragraph, plain, rate, span
from .guarding import give_token, token_of

_SAID = "pending_said"  # a cookie: what the last change came to, shown once
_LONGEST_SAID = 300


def moment(when: datetime | None) -> str:
    """Return an instant in UTC, to the second."""
    return "–" if when is None else f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {
    "moment": moment,
    "paragraph": paragraph,
    "plain": plain,
    "rate": rate,
    "span": span,
}
_templates.globals["STATES"] = [
    *(State.PARKED, State.RETRYING, State.DUE, State.RUNNING, State.SCHEDULED)
]


def page(
    request: Request, template: str, *, status_code: int = 200, **values: Any
) -> Response:
    """Return the page that `template` makes of `values`."""
    text = _templates.get_template(template).render(
        url=lambda path="", **query: url_of(request, path, **query),
        token=token_of(request) if "pending.token" in request.scope else "",
        read_only=settings.dashboard_read_only,
        said=unquote(request.cookies.get(_SAID, "")),
        **values,
    )
    response = HTMLResponse(text, status_code)
    if "pending.token" in request.scope:
        give_token(request, response)
    if _SAID in request.cookies and "x-refresh" not in request.headers:
        response.delete_cookie(_SAID, path=_root(request))
    return response


def url_of(request: Request, path: str = "", **query: Any) -> str:
    """Return the URL of a page of ours, wherever we are mounted."""
    given = {name: value for name, value in query.items() if value is not None}
    tail = f"?{urlencode(given, doseq=True)}" if given else ""
    return f"{request.scope.get('root_path', '')}/{path}{tail}"


def gone_to(request: Request, url: str, *, saying: str = "") -> Response:
    """Return a redirection after a change, to a page that says what it came to."""
    response = RedirectResponse(url, 303)
    if saying:
        text = quote(plain(saying, most=_LONGEST_SAID))
        response.set_cookie(
            _SAID,
            text,
            path=_root(request),
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
    return response


def _root(request: Request) -> str:
    return request.scope.get("root_path") or "/"
