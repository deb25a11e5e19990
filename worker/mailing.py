"""Sending a mail: over SMTP, or as a file under `var/outbox/`."""

from __future__ import annotations

import functools
import re
import smtplib
import socket
import ssl
from contextlib import closing, suppress
from email.message import EmailMessage
from email.policy import SMTPUTF8
from urllib.parse import parse_qs, unquote, urlsplit

from models.connection import VAR

from .settings import settings

#: Where mails go without SMTP_URL, one `.eml` file a message.
OUTBOX = VAR / "outbox"

_SECONDS = 10  # for connecting, and for each answer of the server
_PERMANENT = 500  # SMTP's replies from here on are final


class Refused(Exception):
    """The server will never take this mail: a reply from 500 on."""


def send(message: EmailMessage) -> None:
    """Hand `message` over: to the server of `SMTP_URL`, or to the outbox.

    Raises:
        Refused: the recipient or the mail itself is refused for good.
        smtplib.SMTPException, OSError: not now; the same mail may be sent again.
    """
    if settings.smtp_url is None:
        _write_file(message)
        return
    try:
        with closing(_connection(settings.smtp_url)) as server:
            server.send_message(message)
            _say_goodbye(server)
    except smtplib.SMTPRecipientsRefused as error:
        for code, reply in error.recipients.values():
            _refuse_if_final(code, reply)
        raise
    except smtplib.SMTPDataError as error:
        _refuse_if_final(error.smtp_code, error.smtp_error)
        raise
    except smtplib.SMTPNotSupportedError as error:
        raise Refused(str(error)) from None  # an address that the server cannot write


def _connection(url: str) -> smtplib.SMTP:
    """Connect, secure and log in. TLS is a must where a password is sent."""
    parts, server = urlsplit(url), _reached(url)
    try:
        server.ehlo()
        if parts.scheme == "smtp" and _wants_tls(server, url):
            server.starttls(context=_tls(url))
        if parts.username:
            server.login(unquote(parts.username), unquote(parts.password or ""))
    except BaseException:
        server.close()
        raise
    return server


def _reached(url: str) -> smtplib.SMTP:
    parts, me = urlsplit(url), socket.gethostname()
    host = parts.hostname or "localhost"
    port = parts.port or (587 if parts.username else 25)
    try:
        if parts.scheme == "smtp":
            return smtplib.SMTP(host, port, me, timeout=_SECONDS)
        port = parts.port or 465
        return smtplib.SMTP_SSL(host, port, me, timeout=_SECONDS, context=_tls(url))
    except OSError as error:
        raise OSError(f"no mail server at {host}:{port}: {error}") from error


def _say_goodbye(server: smtplib.SMTP) -> None:
    """Say goodbye. The mail is handed over, whatever the server answers."""
    with suppress(smtplib.SMTPException, OSError):
        server.quit()


@functools.cache
def _tls(url: str) -> ssl.SSLContext:
    """Reading the certificates takes tens of milliseconds: once a process."""
    return ssl.create_default_context(cafile=_option(url, "cafile"))


def _wants_tls(server: smtplib.SMTP, url: str) -> bool:
    wish = _option(url, "starttls")
    if wish is not None:
        return wish != "no"
    return server.has_extn("starttls") or _needs_tls(url)


def _needs_tls(url: str) -> bool:
    parts = urlsplit(url)
    local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    return bool(parts.username) and not local


def _option(url: str, name: str) -> str | None:
    values = parse_qs(urlsplit(url).query).get(name)
    return values[-1] if values else None


def _refuse_if_final(code: int, reply: bytes | str) -> None:
    if code >= _PERMANENT:
        text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
        raise Refused(f"{code} {text}")


def _write_file(message: EmailMessage) -> None:
    """Write the file; the same Message-ID gives the same file again."""
    OUTBOX.mkdir(parents=True, exist_ok=True)
    address, identity = str(message["To"]), str(message["Message-ID"])
    name = re.sub(r"[^\w@.+-]+", "_", f"{address[:100]}-{identity.strip('<>')}")
    path = OUTBOX / f"{name}.eml"
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(message.as_bytes(policy=SMTPUTF8))
    unfinished.replace(path)
