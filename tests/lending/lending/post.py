"""The world outside, which no transaction rolls back."""

from __future__ import annotations

is_closed = False
sent: list[str] = []


def send(text: str) -> None:
    sent.append(text)


async def send_soon(text: str) -> None:
    send(text)


def send_once(key: str) -> None:
    """Send the letter unless one of the same key was sent: as good services offer."""
    if key not in sent:
        sent.append(key)
