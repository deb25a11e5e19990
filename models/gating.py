"""Step 4, claim, of a flag whose handler has limits: how many calls run at once, how
many begin in a while, and which rows are not to run beside each other.

The claims of such a flag pass through a gate, a row that is locked for the claim's
transaction: what is decided there, nobody else decides at the same time. It lies in
the flag's own database, so that it is decided together with the claim, or not at all.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from weakref import WeakSet

import peewee
from peewee import BigIntegerField, CharField, IntegerField, Model, TextField

from .claiming import Claim, claim
from .flags import PendingFlag
from .ordering import Fields, firsts, free_firsts
from .rates import Begun, Rate

_WINDOW = 100  # due rows, beside those that are wanted, that a look takes in
_FRUITLESS_SECONDS = 1  # between two long looks that find nothing
_BUSY = timedelta(milliseconds=50)  # the gate is locked: somebody is claiming


class Gate(Model):
    """What the claims of `flag` pass through.

    Attributes:
        begun: JSON: the calls that have begun, as `rates.Begun`.
    """

    flag = CharField(max_length=255, primary_key=True)
    begun = TextField()

    class Meta:
        table_name = "pending_gate"


class Slots(Model):
    """So many of a flag's calls are under way in the hands of whoever has `token`; it
    is a lease, over at `until` unless it is renewed."""

    token = BigIntegerField(primary_key=True)
    flag = CharField(max_length=255, index=True)
    calls = IntegerField()
    until = BigIntegerField()

    class Meta:
        table_name = "pending_slots"


TABLES = (Gate, Slots)


_fruitless: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a handler's calls are bound by; None and () are no bounds.

    Attributes:
        calls: how many run at once, 1 or more.
        rate: how many begin in a while.
        keys: fields; rows with the same values run one after the other.
    """

    calls: int | None = None
    rate: Rate | None = None
    keys: Fields = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """What came through the gate.

    Attributes:
        claims: in no order.
        calls: how many calls may be made for them: as many as there are, or fewer.
        wait: nothing comes through before then, whatever is due; None: who knows.
        is_busy: somebody else was at the gate.
    """

    claims: Sequence[Claim] = ()
    calls: int = 0
    wait: timedelta | None = None
    is_busy: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """A claim that somebody wants to make.

    Attributes:
        calls: the most that are to be made, 1 or more.
        rows: the most rows of one call.
        count: tells how many calls some claims are, before the rest is given back.
    """

    calls: int
    rows: int
    count: Callable[[Sequence[Claim]], int]
    lease: timedelta
    suspects: bool
    token: int


def claim_within(flag: PendingFlag, limits: Limits, wish: Wish) -> Passage:
    """Claim as many rows as the limits allow; calls that may begin are counted.

    Raises:
        peewee.PeeweeException: the database failed. Rows may stay leased, and calls
            counted, for as long as the lease is.
    """
    make_tables(flag.database)
    try:
        with flag.dialect.transaction(flag.database):
            return _within(flag, limits, wish)
    except peewee.PeeweeException:
        _with_tables.discard(flag.database)  # they may have been dropped
        raise


def _within(flag: PendingFlag, limits: Limits, wish: Wish) -> Passage:
    entered = _enter(flag)
    if entered is None:
        return Passage(wait=_BUSY, is_busy=True)
    begun, now = entered
    if limits.rate is not None and limits.rate.is_ahead(begun, now):
        begun = limits.rate.in_force(begun, now)
        _write(flag, begun)
    calls, wait = _allowed(flag, limits, wish.calls, begun, now)
    if not calls:
        return Passage(wait=wait)
    claims = claim_in_order(
        flag,
        limits.keys,
        limit=calls * wish.rows,
        lease=wish.lease,
        suspects=wish.suspects,
        token=wish.token,
    )
    if not claims:
        return Passage()
    calls = min(calls, wish.count(claims))
    if limits.calls is not None:
        _take_slots(flag, wish, calls)
    if limits.rate is not None:
        # The time after the claim: a row is claimed no later than it is counted, and
        # no sooner than it was found to be free.
        _write(flag, limits.rate.after(begun, _now(flag), calls))
    return Passage(claims, calls)


def claim_in_order(  # noqa: PLR0913 (options, by name)
    flag: PendingFlag,
    keys: Fields,
    *,
    limit: int,
    lease: timedelta,
    suspects: bool = True,
    token: int | None = None,
) -> list[Claim]:
    """Claim as `claim` does, of rows that are alike in `keys` the one that is next.

    Nobody else may do so at the same time.
    """
    take = partial(
        claim, flag, limit=limit, lease=lease, suspects=suspects, token=token
    )
    if not keys:
        return take()
    among = firsts(flag, keys, window=_WINDOW + limit)
    claims = take(among=among) if among else []
    if claims or time.monotonic() < _fruitless.get(flag.label, 0) + _FRUITLESS_SECONDS:
        return claims
    among = free_firsts(flag, keys, window=_WINDOW + limit)
    claims = take(among=among) if among else []
    if not claims:
        _fruitless[flag.label] = time.monotonic()
    return claims


def renew_slots(flag: PendingFlag, tokens: Iterable[int], *, lease: timedelta) -> None:
    """Hold the slots of `tokens`, as far as they are there, for another `lease`."""
    until = flag.dialect.now + lease // timedelta(milliseconds=1)
    update = Slots.update({Slots.until: until}).where(Slots.token.in_(list(tokens)))
    update.execute(flag.database)


def release_slots(flag: PendingFlag, token: int, *, left: int = 0) -> None:
    """Of the calls of `token` only so many are under way any more."""
    mine = Slots.token == token
    if left:
        Slots.update({Slots.calls: left}).where(mine).execute(flag.database)
    else:
        Slots.delete().where(mine).execute(flag.database)


_with_tables: WeakSet[peewee.Database] = WeakSet()


def make_tables(database: peewee.Database) -> None:
    """Make the gates' tables in `database`, if they are not there.

    Raises:
        peewee.PeeweeException: they are not, and cannot be made.
    """
    if database in _with_tables:
        return
    for table in TABLES:
        name = table._meta.table_name
        try:
            if not database.table_exists(name):
                peewee.SchemaManager(table, database).create_all(safe=True)
        except peewee.PeeweeException:
            if not database.table_exists(name):  # by somebody else at the same time
                raise
    _with_tables.add(database)


def _enter(flag: PendingFlag) -> tuple[Begun, int] | None:
    """Lock the gate; return the calls that have begun and the time, None if somebody
    else has it locked."""
    mine = Gate.flag == flag.label
    query = Gate.select(Gate.begun, flag.dialect.now).where(mine).tuples()
    locked = flag.dialect.locked(query)
    rows = list(locked.clone().execute(flag.database))
    if not rows and not list(query.clone().execute(flag.database)):
        row = {Gate.flag: flag.label, Gate.begun: "[]"}
        Gate.insert(row).on_conflict_ignore().execute(flag.database)
        rows = list(locked.execute(flag.database))
    if not rows:
        return None
    begun, now = rows[0][:2]
    return [(end, n) for end, n in json.loads(begun)], int(now)


def _allowed(
    flag: PendingFlag, limits: Limits, calls: int, begun: Begun, now: int
) -> tuple[int, timedelta | None]:
    """Return how many of `calls` may begin; if none may, perhaps after which wait."""
    if limits.rate is not None:
        calls = min(calls, limits.rate.free(begun, now))
        if not calls:
            return 0, timedelta(milliseconds=limits.rate.wait(begun, now))
    if limits.calls is not None:
        calls = min(calls, limits.calls - _under_way(flag))
    return max(0, calls), None


def _under_way(flag: PendingFlag) -> int:
    """Return how many calls of the flag's run; those whose lease is over are gone."""
    expired = (Slots.flag == flag.label) & (Slots.until <= flag.dialect.now)
    dead = list(
        Slots.select(Slots.token).where(expired).tuples().execute(flag.database)
    )
    if dead:  # by the key, and asked again: one that is renewed just now lives
        keys = Slots.token.in_([token for (token,) in dead])
        Slots.delete().where(keys, expired).execute(flag.database)
    total = Slots.select(peewee.fn.SUM(Slots.calls)).where(Slots.flag == flag.label)
    ((calls,),) = total.tuples().execute(flag.database)
    return int(calls or 0)


def _take_slots(flag: PendingFlag, wish: Wish, calls: int) -> None:
    row = {
        Slots.token: wish.token,
        Slots.flag: flag.label,
        Slots.calls: calls,
        Slots.until: flag.dialect.now + wish.lease // timedelta(milliseconds=1),
    }
    Slots.insert(row).execute(flag.database)


def _now(flag: PendingFlag) -> int:
    query = peewee.Select((), (flag.dialect.now,)).bind(flag.database)
    ((now,),) = query.tuples()
    return int(now)


def _write(flag: PendingFlag, begun: Begun) -> None:
    update = Gate.update({Gate.begun: json.dumps(begun)})
    update.where(Gate.flag == flag.label).execute(flag.database)
