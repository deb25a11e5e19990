"""The handler takes many users at once."""

from __future__ import annotations

import time

from ours.user import User
from worker import handles


@handles(User.needs_welcome, batch=500)
def welcome(users: list[User]) -> None:
    for user in users:
        user.welcomed_at = time.time()
