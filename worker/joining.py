"""How a broker's workers come to do the work of flags: ours, or an application's."""

from __future__ import annotations

from typing import Any

import dramatiq

from .brokers import bells, broker
from .processes import Life
from .redis_broker import Expires
from .watching import Begins


def use_broker(broker: dramatiq.Broker) -> None:
    """Let the bells hang in `broker`, and its workers hear them and do the work.

    It keeps its actors and its middleware. Workers are then started with the
    application's module, `dramatiq shop.jobs`, the clock with `periodiq shop.jobs`.

    Args:
        broker: a RedisBroker, a RabbitmqBroker, or in tests a StubBroker.

    Raises:
        DefinitionError: it is of another kind, or has an actor called `kick` or
            `sweep`.
    """
    bells.hang_in(broker)
    for middleware in (Expires, Begins, Life):
        _add(middleware, broker)


def _add(kind: Any, broker: dramatiq.Broker) -> None:
    if any(isinstance(one, kind) for one in broker.middleware):
        return
    first = [type(one) for one in broker.middleware[:1]]
    if kind is Expires and first:  # before an age limit of the application's
        broker.add_middleware(kind(), before=first[0])
    else:
        broker.add_middleware(kind())


use_broker(broker)
