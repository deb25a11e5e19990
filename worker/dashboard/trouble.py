"""Pages for what does not work."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ..failures import headline, remedy
from .rendering import page


async def unavailable(request: Request, error: Exception) -> Response:
    """The database does not answer in time."""
    return _trouble(request, 503, "Unavailable", f"{_capital(error)}.")


async def database_says(request: Request, error: Exception) -> Response:
    """The database says something against it."""
    text = f"The database says: {headline(error)}{remedy(error)}"
    return _trouble(request, 503, "Unavailable", text)


async def not_found(request: Request, error: Exception) -> Response:
    """There is no such flag, or row."""
    return _trouble(request, 404, "Not found", _capital(error))


async def bad_request(request: Request, error: Exception) -> Response:
    """What was typed cannot be meant."""
    return _trouble(request, 400, "That cannot be meant", _capital(error))


async def refused(request: Request, error: Any) -> Response:
    """The framework, or a page, says no."""
    return _trouble(request, error.status_code, error.detail, "")


def _trouble(request: Request, status_code: int, title: str, text: str) -> Response:
    again = status_code == HTTPStatus.SERVICE_UNAVAILABLE and request.method == "GET"
    return page(
        request,
        "trouble.html",
        status_code=status_code,
        title=title,
        text=text,
        again=again,
    )


def _capital(error: Exception) -> str:
    text = headline(error)
    return text[:1].upper() + text[1:]
