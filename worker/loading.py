"""The application's own modules: imported where no command line names them."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from pathlib import Path

from models import BadSetting
from models.finding import flags

from .handlers import all_handlers
from .settings import settings

logger = logging.getLogger("pending")

_OURS = ("models", "worker")

_told: set[tuple[str, ...]] = set()


def load_modules() -> None:
    """Import what PENDING_MODULES names, so that its flags and handlers are known.

    One warning if no flag came with it.

    Raises:
        BadSetting: a module cannot be imported; the message is one line.
    """
    if os.getcwd() not in sys.path:  # where a console script does not look
        sys.path.insert(0, os.getcwd())
    for module in settings.modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise BadSetting(
                "PENDING_MODULES",
                f"{module} cannot be imported: {_reason(module, error)}",
            ) from error
    if settings.modules and not _has_flags() and settings.modules not in _told:
        _told.add(settings.modules)
        logger.warning(
            "modules without flags modules=%s: PENDING_MODULES is to name those of your"
            " models and handlers",
            ",".join(settings.modules),
        )


def _has_flags() -> bool:
    models = [flag.model for flag in flags()]
    functions = [handler.function for handler in all_handlers()]
    places = {getattr(one, "__module__", "") for one in (*models, *functions)}
    return any(place.partition(".")[0] not in _OURS for place in places)


def _reason(module: str, error: Exception) -> str:
    said = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(
        f"{error.name}."
    ):
        return f"there is no {error.name} in {os.getcwd()}, nor on PYTHONPATH"
    return f"{type(error).__name__}: {said}{_place(error)}{_hidden(error)}"


def _place(error: Exception) -> str:
    """Say which line of the application it was."""
    if isinstance(error, SyntaxError):  # which says so itself
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    places = [(f.filename, f.lineno) for f in frames if "importlib" not in f.filename]
    return " ({}:{})".format(*places[-1]) if places[1:] else ""


def _hidden(error: Exception) -> str:
    """Say that the application's own `models` or `worker` cannot be reached."""
    name = (getattr(error, "name", None) or "").partition(".")[0]
    here = [Path(name), Path(f"{name}.py")] if name in _OURS else []
    ours = Path(__file__).resolve().parent.parent
    if ours == Path.cwd() or not any(path.exists() for path in here):
        return ""
    return (
        f"; `{name}` is that of pending-flags: rename yours, or move it into a package"
        " of your own"
    )
