"""What machines ask for: metrics, the status as JSON, and whether we are there."""

from __future__ import annotations

import json

import peewee
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from models.connection import connected
from models.operations import now, the_database

from .. import metrics as prometheus
from ..overview import overview, to_json
from ..wording import jsonable
from .asking import Unavailable, ask

_SCRAPE_SECONDS = 5  # Prometheus waits for 10


async def metrics(request: Request) -> Response:
    """Prometheus' text format."""
    try:
        text = await ask(prometheus.exposition, seconds=_SCRAPE_SECONDS)
    except (Unavailable, peewee.DatabaseError, peewee.InterfaceError):
        return PlainTextResponse("The database does not answer.\n", 503)
    return Response(text, media_type=prometheus.CONTENT_TYPE)


async def status(request: Request) -> Response:
    """The same as `pending status --json`."""
    try:
        found = to_json(await ask(overview))
    except (Unavailable, peewee.DatabaseError, peewee.InterfaceError):
        return _json({"problem": "the database does not answer"}, 503)
    return _json(found)


async def health(request: Request) -> Response:
    """200 if the database answers, else 503."""
    try:
        await ask(_moment)
    except (Unavailable, peewee.DatabaseError, peewee.InterfaceError):
        return PlainTextResponse("unavailable\n", 503)
    return PlainTextResponse("ok\n")


def _moment() -> int:
    with connected(the_database()):
        return now()


def _json(value: object, status_code: int = 200) -> Response:
    text = json.dumps(value, default=jsonable, indent=2)
    return Response(text, status_code, media_type="application/json")
