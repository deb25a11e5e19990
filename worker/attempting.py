"""One attempt each at the rows that were claimed at once.

An atomic handler's rows are tried in one transaction. If anything is the matter with
one of them all is rolled back, so nothing is seen twice, and each has its own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable, Sequence
from copy import deepcopy
from typing import Any

from models.claiming import Claim
from models.finishing import can_be_many, finish_all

from .calling import Call, call_once, calls_of, claims_of
from .calling import run as run_alone
from .ending import End
from .events import Event, log_claimed
from .handlers import Handler
from .hands import PAUSES, Hand, Ring, tended
from .leasing import leases


class _Apart(Exception):
    """Something is the matter with one of the rows."""


class _Ended(_Apart):
    """The handler has ended the transaction, which is not its own alone."""


def attempt(handler: Handler, claims: Sequence[Claim], ring: Ring) -> Counter[Event]:
    """Handle the rows of `claims`, one call after the other, and record their ends.

    Rows that would have to wait for long are given back.

    Args:
        claims: of the handler's flag, not empty.
        ring: called with the flag when rows were given back that others may take.

    Returns:
        How many claims ended in which way.

    Raises:
        peewee.PeeweeException: the database stayed away for as long as the lease
            lasts, so some ends are not recorded.
    """
    log_claimed(claims)
    hand = Hand(handler, calls_of(handler, claims), ring)
    with leases.kept(*claims), tended(hand):
        try:
            if not _may_be_together(handler, hand) or not _together(handler, hand):
                for call in hand.calls():
                    hand.end(call, run_alone(handler, call))
        finally:
            hand.close()
    handler.pace.took(hand.handled, hand.seconds)
    return hand.ended


def _may_be_together(handler: Handler, hand: Hand) -> bool:
    if handler.rate is not None:
        return False  # a call that is undone was one all the same
    return handler.atomic and len(hand) > 1 and not handler.pace.is_alone


def _together(handler: Handler, hand: Hand) -> bool:
    """Try all rows in one transaction; say whether that went well."""
    database, dialect = handler.flag.database, handler.flag.dialect
    calls: list[Call] = []
    before: list[dict[str, Any]] = []
    try:
        seconds = _in_one_transaction(handler, hand, calls, before)
    except BaseException as error:  # noqa: BLE001 (each row's own attempt tells)
        if dialect.has_lost(database):
            database.close()
        handler.pace.stumbled(for_good=isinstance(error, _Ended))
        for claim, state in zip(claims_of(calls), before, strict=True):
            vars(claim.row).clear()
            vars(claim.row).update(state)
        hand.wait_again(calls)
        return False
    finally:
        dialect.rolled_back(database)
    claims = claims_of(calls)
    end = End(Event.FINISHED, seconds / max(len(claims), 1), None)
    hand.end(claims, [end] * len(claims))
    return True


def _in_one_transaction(
    handler: Handler, hand: Hand, calls: list[Call], before: list[dict[str, Any]]
) -> float:
    """Call the handler for each of the hand's calls, which are noted in `calls`, and
    finish the rows; return how many seconds the calls took.

    Args:
        before: gets what is in each row, before the handler has it.
    """
    database, dialect = handler.flag.database, handler.flag.dialect
    started = time.monotonic()
    with dialect.transaction(database):
        # A handler that ends the transaction takes the savepoint with it.
        with database.savepoint():
            for call in hand.calls():
                before += [_state_of(claim) for claim in call]
                calls.append(call)
                if any(call_once(handler, call)):
                    raise _Apart
                if not dialect.is_inside(database.connection()):
                    raise _Ended
        seconds = time.monotonic() - started
        if calls:
            _finish_together(claims_of(calls))
    return seconds


def _finish_together(claims: list[Claim]) -> None:
    """Finish all of `claims`. It never waits for a lock, since those who wait for the
    transaction's own might have it: one that lasts undoes the calls."""
    for pause in PAUSES:
        time.sleep(pause)
        finished = set(finish_all(claims))
        claims = [claim for claim in claims if claim not in finished]
        if not claims:
            return
        if not all(can_be_many(claim) for claim in claims):
            break
    raise _Apart


def _state_of(claim: Claim) -> dict[str, Any]:
    """Return a copy of all that the row, as it was loaded, consists of."""
    data = claim.row.__data__.items()
    own = {n: v if isinstance(v, Hashable) else deepcopy(v) for n, v in data}
    return {**vars(claim.row), "__data__": own, "_dirty": set(), "__rel__": {}}
