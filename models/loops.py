"""Databases in an event loop, which nothing here blocks.

Peewee's async databases (`playhouse.pwasyncio`) work inside of an event loop alone, and
workers are threads. So there may be two objects for one database, and each piece of
code has the right one by where it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeVar

import peewee

from .connection import borrowed, is_async
from .errors import OpenTransaction

T = TypeVar("T")


class AwaitableDatabase(peewee.DatabaseProxy):
    """One database, for code that awaits it and for code that does not.

    In a thread with a running event loop it is `awaited`: queries are awaited, as in
    `await order.asave()`, and one that is not raises instead of blocking the loop.
    Anywhere else it is `plain`: in workers, in scripts, in threads of a web server.

    Args:
        plain: any peewee database but an async one.
        awaited: the same database, as `playhouse.pwasyncio` has it.

    Raises:
        TypeError: these are not one of each.
    """

    __slots__ = ("_callbacks", "awaited", "plain")

    if TYPE_CHECKING:
        plain: peewee.Database
        awaited: Any

    def __init__(self, plain: peewee.Database, awaited: Any) -> None:
        if is_async(plain) or not is_async(awaited):
            raise TypeError(
                "needed are a plain peewee database and one of playhouse.pwasyncio, in"
                f" this order, not {plain!r} and {awaited!r}"
            )
        self._callbacks: list[Any] = []
        self.plain, self.awaited = plain, awaited

    @property
    def obj(self) -> Any:
        """The one of the two that is right where it is asked for."""
        return self.awaited if in_event_loop() else self.plain

    # peewee's proxy would make plain ones itself.

    def atomic(self, *args: Any, **options: Any) -> Any:
        return self.obj.atomic(*args, **options)

    def transaction(self, *args: Any, **options: Any) -> Any:
        return self.obj.transaction(*args, **options)

    def savepoint(self) -> Any:
        return self.obj.savepoint()

    async def __aenter__(self) -> Self:
        await self.awaited.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.awaited.__aexit__(*error)


def in_event_loop() -> bool:
    """Say whether this thread runs an event loop, which must not be blocked."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def without_blocking(database: peewee.Database, function: Callable[[], T]) -> T:
    """Call `function`, which queries `database`, from a coroutine.

    With an async database it takes part in the task's transaction. With any other it
    runs in a thread, on a connection of that thread.

    Raises:
        OpenTransaction: the loop's own thread has one in a plain database, and the
            call would be no part of it.
    """
    if is_async(database):
        return await database.run(function)  # type: ignore[attr-defined]
    if database.in_transaction():
        raise OpenTransaction(
            "a transaction is open in the event loop's thread; what is awaited is no"
            " part of it: do all of it in one function that asyncio.to_thread() runs"
        )

    def call() -> T:
        with borrowed(database):
            return function()

    return await asyncio.to_thread(call)
