"""The example (a user who is welcomed by e-mail): whether it is here, and wanted.

Nothing else depends on it: with `PENDING_EXAMPLE=0`, or with its files deleted,
there is no user, no table of users, no welcome e-mail and no `pending signup`.
"""

from __future__ import annotations

import os
from pathlib import Path

from .errors import BadSetting

_ROOT = Path(__file__).resolve().parent.parent
_FILES = (
    *("models/user.py", "worker/welcome.py", "worker/mailing.py"),
    "worker/cli/signup.py",
)

#: The script that makes its table, and is left out with it.
SCRIPT = "0001_users"


def is_wanted() -> bool:
    """Say whether the example is to be imported.

    Raises:
        BadSetting: PENDING_EXAMPLE is neither yes nor no.
    """
    value = os.environ.get("PENDING_EXAMPLE") or "1"
    if value not in {"0", "1"}:
        raise BadSetting("PENDING_EXAMPLE", f"{value!r} is neither 1 nor 0")
    return value == "1" and all((_ROOT / file).is_file() for file in _FILES)
