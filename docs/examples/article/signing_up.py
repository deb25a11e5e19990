"""The application: it marks, and never names a task or a queue."""

from __future__ import annotations

from users import User

import worker  # noqa: F401 (whoever imports it kicks after each commit)


def sign_up(email: str) -> User:
    """Create a user who needs a welcome, both or neither."""
    return User.create(email=email, needs_welcome_email=True)


def welcome_again(user: User) -> None:
    """The same for a user who exists: the two lines of the article."""
    user.needs_welcome_email = True
    user.save()
