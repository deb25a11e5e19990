"""A user's program in an event loop, with nothing wrong either."""

from __future__ import annotations

from typing import assert_type

from peewee import CharField
from playhouse.pwasyncio import AsyncModelMixin, AsyncSqliteDatabase

from models import AwaitableDatabase, PendingFlag, PendingModel
from models import database as plain
from worker import handles, mark_pending_async

database = AwaitableDatabase(plain, AsyncSqliteDatabase("letters.db"))


class Letter(AsyncModelMixin, PendingModel):
    text = CharField(default="")
    needs_stamp = PendingFlag()

    class Meta:
        database = database


@handles(Letter.needs_stamp)
async def stamp(letter: Letter) -> None:
    letter.text = f"{letter.text} (stamped)"
    await letter.asave()


async def write(text: str) -> int:
    async with database.atomic():
        letter = Letter(text=text, needs_stamp=True)
        await letter.asave()
    assert_type(Letter.needs_stamp, PendingFlag[Letter])
    async with database:
        return await mark_pending_async(Letter.select(), Letter.needs_stamp)
