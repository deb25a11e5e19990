"""The work that is measured: load an account, save when it was seen."""

from __future__ import annotations

import time

from peewee import CharField, DoubleField

from models import PendingFlag, PendingModel
from worker import handles


class Account(PendingModel):
    """`seen_at` and `marked_at` are seconds since the epoch, this machine's clock."""

    name = CharField()
    marked_at = DoubleField(null=True)
    seen_at = DoubleField(null=True)
    needs_look = PendingFlag()


@handles(Account.needs_look)
def look(account: Account) -> None:
    if account.name == "slow" and account.needs_look_attempts == 1:
        time.sleep(600)  # its worker is going to be killed
    account.seen_at = time.time()
