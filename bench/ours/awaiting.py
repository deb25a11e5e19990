"""The handler waits 50 ms for each user, as for a webhook."""

from __future__ import annotations

import asyncio
import time

from ours.user import User
from worker import handles


@handles(User.needs_welcome)
async def welcome(user: User) -> None:
    await asyncio.sleep(0.05)
    user.welcomed_at = time.time()
