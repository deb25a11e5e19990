"""Whether `models` is ours: an application may have a package of that name itself.

Imported before anything else of this package, so that what is wrong is one line.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

_OURS = Path(__file__).resolve().parent.parent / "models" / "__init__.py"


def _check() -> None:
    spec = importlib.util.find_spec("models")
    origin = spec.origin if spec and spec.origin else "missing"
    if Path(origin).resolve() != _OURS:
        raise SystemExit(
            f"pending-flags: the top-level package `models` is {origin}, and must be"
            f" {_OURS.parent}; rename yours, or move it into a package of your own"
        )


_check()
