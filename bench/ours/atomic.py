"""The handler writes by itself, in the transaction that clears the flag."""

from __future__ import annotations

import time

from ours.user import User
from worker import handles


@handles(User.needs_welcome, atomic=True)
def welcome(user: User) -> None:
    User.update(welcomed_at=time.time()).where(User.id == user.id).execute()
