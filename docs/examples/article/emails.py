"""The background work: `dramatiq worker emails`."""

from __future__ import annotations

from users import User

from worker import handles

SENT: list[str] = []


def send_welcome_email(email: str) -> None:
    """Stand for a mail server."""
    SENT.append(email)


@handles(User.needs_welcome_email)
def send_background_email(user: User) -> None:
    """Welcome one user. The loop, the filter, and the clearing of the flag are done."""
    send_welcome_email(user.email)
