"""A real SMTP server on loopback that keeps what it was sent."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller

Answer = Callable[[str], str | None]


class Mailbox:
    """What arrived. `refuse(address)` may give the reply to a recipient."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.refuse: Answer = lambda address: None
        self.attempts: Counter[str] = Counter()

    def per_address(self) -> Counter[str]:
        return Counter(str(mail["To"]) for mail in self.mails)

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        self.attempts[address] += 1
        if reply := self.refuse(address):
            return reply
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        mail = message_from_bytes(envelope.content, policy=policy.default)
        self.mails.append(mail)  # type: ignore[arg-type]
        return "250 OK"


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def smtp_server(mailbox: Mailbox, port: int, **options: Any) -> Iterator[str]:
    """Serve `mailbox` on the port for as long as the block lasts; yields its URL."""
    controller = Controller(mailbox, "127.0.0.1", port, **options)
    controller.start()
    try:
        yield f"smtp://127.0.0.1:{port}"
    finally:
        controller.stop()
