"""The log: one line an event, with the flag, the key and the attempt."""

from __future__ import annotations

import logging
import re

import pytest
from domain import Order, Seat
from looking import write
from work import HOUR, drained

from worker import GiveUp, RetryLater


def raising(error):
    def handler(row):
        raise error

    return handler


def stolen(row):
    write(Order.needs_receipt, row, lease=1)


@pytest.mark.parametrize(
    ("handler", "level", "words"),
    [
        (lambda row: None, "INFO", ("finished ", " ms=")),
        (raising(ValueError("a\nb")), "WARNING", ("released ", ": ValueError: a b (")),
        (raising(GiveUp("gone")), "ERROR", ("parked ", " gone")),
        (raising(RetryLater(HOUR, "closed")), "INFO", ("postponed ", " closed")),
        (stolen, "WARNING", ("lost ", " ms=")),
    ],
    ids=["finished", "released", "parked", "postponed", "lost"],
)
def test_each_end_of_a_claim_is_one_line(database, caplog, handler, level, words):
    caplog.set_level(logging.DEBUG, logger="pending")
    row = Order.create(needs_receipt=True)
    drained(Order.needs_receipt, handler)
    claimed, ended = (r for r in caplog.records if r.name == "pending")
    what = f"flag={Order.needs_receipt.label} key={row.id} attempt=1"
    assert (claimed.levelname, claimed.message) == ("DEBUG", f"claimed {what}")
    assert ended.levelname == level
    assert ended.message.startswith(f"{words[0]}{what}")
    assert words[1] in ended.message
    assert len(ended.message.splitlines()) == 1


def test_a_key_of_several_columns_is_logged_whole(database, caplog):
    caplog.set_level(logging.INFO, logger="pending")
    Seat.create(room="a", number=1, needs_cleaning=True)
    drained(Seat.needs_cleaning, lambda row: None)
    assert f"flag={Seat.needs_cleaning.label} key=('a', 1) attempt=1 " in caplog.text


def test_a_released_row_s_line_says_when_it_is_due(database, caplog):
    Order.create(needs_receipt=True)
    drained(Order.needs_receipt, raising(ValueError("boom")))
    assert re.search(r" attempt=1 due in 3[2-9]\d\d s: ValueError: boom ", caplog.text)
