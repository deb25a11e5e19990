"""Mails: to the server SMTP_HOST, or where none is named, files in `var/outbox/`."""

from __future__ import annotations

import hashlib
import os
import smtplib
from email.message import EmailMessage
from pathlib import Path

OUTBOX = Path(os.environ.get("OUTBOX", "var/outbox"))

_SECONDS = 10


def send(message: EmailMessage, *, key: str) -> None:
    """Send `message`. Two with one key have one Message-ID: mail servers and programs
    show the second one as the first, and there is one file of them.

    Raises:
        OSError: the server, or the disk, refused (smtplib's errors are OSErrors).
    """
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    message["From"] = "Shop <shop@localhost>"
    message["Message-ID"] = f"<{name}@shop.localhost>"
    host = os.environ.get("SMTP_HOST")
    if host:
        with smtplib.SMTP(host, timeout=_SECONDS) as server:
            server.send_message(message)
        return
    OUTBOX.mkdir(parents=True, exist_ok=True)
    written = OUTBOX / f"{name}.writing"
    written.write_bytes(bytes(message))
    written.rename(OUTBOX / f"{name}.eml")
