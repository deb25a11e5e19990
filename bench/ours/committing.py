"""The handler writes and commits by itself, before the flag is cleared."""

from __future__ import annotations

import time

from ours.user import User
from worker import handles


@handles(User.needs_welcome)
def welcome(user: User) -> None:
    User.update(welcomed_at=time.time()).where(User.id == user.id).execute()
