"""`pending dashboard`: all of it in a browser."""

from __future__ import annotations

import importlib
from types import ModuleType

import click

from ..settings import settings
from .asking import load

_EXTRA = ("jinja2", "prometheus_client", "starlette", "uvicorn")


@click.command()
@click.option("--host", default=settings.dashboard_host, show_default=True)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=settings.dashboard_port,
    show_default=True,
)
@click.option(
    "--prefix",
    default="",
    metavar="/PATH",
    help="The path that a proxy in front of it takes away.",
)
def dashboard(host: str, port: int, prefix: str) -> None:
    """Serve the dashboard, with /metrics, /status.json and /healthz.

    \b
    pending dashboard
    DASHBOARD_USER=ops DASHBOARD_PASSWORD=… pending dashboard --host 0.0.0.0

    It answers this host alone, unless DASHBOARD_USER and DASHBOARD_PASSWORD are set.
    With DASHBOARD_READ_ONLY=1 it changes nothing.
    """
    serving = _imported()
    load()
    problem = serving.problem_of(host)
    if problem:
        raise click.ClickException(problem)
    serving.serve(host, port, prefix=prefix.rstrip("/"))


def _imported() -> ModuleType:
    """The packages are an extra: an application without a dashboard needs none."""
    try:
        return importlib.import_module("worker.dashboard.serving")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        raise click.ClickException(
            f"{package} is missing; pip install 'pending-flags[dashboard]'"
        ) from None
