"""The example handler: the welcome e-mail of a user who signed up."""

from __future__ import annotations

from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from uuid import NAMESPACE_URL, uuid5

import idna

from models.user import User

from .declaring import handles
from .mailing import Refused, send
from .settings import settings
from .signals import GiveUp


@handles(User.needs_welcome_email)
def send_welcome_email(user: User) -> None:
    """Welcome `user` by e-mail, and remember when.

    Raises:
        GiveUp: it is no address, or it was refused for good.
        smtplib.SMTPException, OSError: the server is in trouble; try again.
    """
    try:
        send(welcome_message(user))
    except Refused as refusal:
        raise GiveUp(f"{user.email} was refused: {refusal}") from None
    user.welcomed_at = datetime.now(UTC).replace(tzinfo=None)


def welcome_message(user: User) -> EmailMessage:
    """Return the mail. Its Message-ID names the mark: every attempt has the same.

    Raises:
        GiveUp: the user has no address to send it to.
    """
    local, _, host = user.email.rpartition("@")
    if not (local and host):
        raise GiveUp(f"{user.email!r} is no address")
    mark = User.needs_welcome_email.key_of_mark(user)
    domain = parseaddr(settings.mail_from)[1].rpartition("@")[2] or "localhost"
    message = EmailMessage()
    message["From"] = settings.mail_from
    message["To"] = Address(username=local, domain=_ascii(host))
    message["Subject"] = "Welcome!"
    message["Message-ID"] = f"<{uuid5(NAMESPACE_URL, mark)}@{domain}>"
    message["Date"] = format_datetime(datetime.now(UTC))
    message.set_content(f"Welcome, {user.email}!\n\nIt is good to have you with us.\n")
    return message


def _ascii(host: str) -> str:
    """Few servers take a domain in other letters; all take its ASCII form."""
    return host if host.isascii() else idna.encode(host, uts46=True).decode()
