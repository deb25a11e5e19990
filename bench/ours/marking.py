"""This project in an application: rows are created marked, or marked in bulk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from models.committing import on_mark

_committed: list[Callable[[], None]] = []

# Before the import of `worker`, so that the time is taken between commit and kick.
on_mark(lambda flag: [committed() for committed in _committed])

import models  # noqa: E402
from ours.user import User  # noqa: E402
from worker import mark_pending  # noqa: E402


def install() -> None:
    User.create_table()
    if hasattr(models, "User"):  # the worker looks at the example's flag as well
        models.User.create_table()


def enqueue(emails: Iterable[str], committed: Callable[[], None]) -> None:
    _committed.append(committed)
    for email in emails:
        User.create(email=email, needs_welcome=True)


def bulk(keys: Sequence[int]) -> None:
    assert mark_pending(User.select(), User.needs_welcome) == len(keys)
