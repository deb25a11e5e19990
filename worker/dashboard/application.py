"""What is where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peewee
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from models.errors import BadText, NoSuchFlag

from . import actions, machines, pages, trouble
from .asking import Patience, Unavailable
from .guarding import Guard, Headers, Login

_ROUTES = [
    Route("/", pages.flags),
    Route("/flag", pages.flag),
    Route("/row", pages.row),
    Route("/confirm", actions.confirm),
    Route("/do", actions.do, methods=["POST"]),
    Route("/deed", actions.deed),
    Route("/metrics", machines.metrics),
    Route("/status.json", machines.status),
    Route("/healthz", machines.health),
    Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
]

_TROUBLE = {
    Unavailable: trouble.unavailable,
    peewee.DatabaseError: trouble.database_says,
    peewee.InterfaceError: trouble.database_says,
    NoSuchFlag: trouble.not_found,
    BadText: trouble.bad_request,
    HTTPException: trouble.refused,
}


def _application(*guards: Any) -> Starlette:
    return Starlette(
        routes=_ROUTES,
        middleware=[Middleware(guard) for guard in (*guards, Patience)],
        exception_handlers=_TROUBLE,
    )


#: Asks for DASHBOARD_USER and DASHBOARD_PASSWORD; without them it answers this host.
app = _application(Headers, Login, Guard)

#: Answers everybody, for what stands behind a login of your own.
app_without_login = _application(Headers, Guard)
