"""The handler assigns, the finish saves it."""

from __future__ import annotations

import time

from ours.user import User
from worker import handles


@handles(User.needs_welcome)
def welcome(user: User) -> None:
    user.welcomed_at = time.time()
