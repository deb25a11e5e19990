"""The example: a user who is to be welcomed by e-mail."""

from __future__ import annotations

from collections.abc import Sequence

from peewee import CharField, DataError, DateTimeField, IntegrityError

from .flags import PendingFlag
from .rows import PendingModel


class User(PendingModel):
    """Somebody who signed up.

    Attributes:
        email: where to reach them, as they typed it, the domain in lower case.
        needs_welcome_email: pending until the welcome e-mail was handed over.
        welcomed_at: when that was, UTC; None if not yet.
    """

    email = CharField(unique=True)
    needs_welcome_email = PendingFlag()
    welcomed_at = DateTimeField(null=True)

    @classmethod
    def sign_up(cls, emails: Sequence[str]) -> set[str]:
        """Create a user for each address, all to be welcomed, in one transaction.

        Args:
            emails: valid addresses, none twice.

        Returns:
            The addresses that the database refused: they are signed up already.
        """
        database = cls._meta.database
        with database.atomic():
            users = cls.select(cls.email).where(cls.email.in_(emails))
            known = {user.email for user in users}
            rows = [
                {"email": email, "needs_welcome_email": True}
                for email in emails
                if email not in known
            ]
            try:
                with database.atomic():
                    cls.insert_many(rows).execute()
            except (IntegrityError, DataError):
                # Somebody else was quicker, or the database sees two as one.
                known |= {email for email in emails if not cls._signed_up(email)}
        return known

    @classmethod
    def _signed_up(cls, email: str) -> bool:
        try:
            with cls._meta.database.atomic():
                cls.create(email=email, needs_welcome_email=True)
        except (IntegrityError, DataError):
            return False
        return True
