"""Our own broker, and where the bells hang: there, or in an application's broker."""

from __future__ import annotations

import sys
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import AgeLimit, default_middleware
from periodiq import PeriodiqMiddleware
from redis import ConnectionPool, SentinelConnectionPool

from models import BadSetting, DefinitionError

from .redis_broker import BellBroker, Expires
from .settings import settings


class StubBells:
    """Where bells hang: in the memory of a test.

    dramatiq's own consumer hears them, so that `broker.join("pending")` waits for them.
    """

    def __init__(self, broker: StubBroker) -> None:
        self._broker = broker

    def ring(self, message: Any) -> bool:
        """Hang the bell."""
        self._broker.declare_queue(message.queue_name)
        self._broker.enqueue(message)
        return True

    def consume(self, queue_name: str, prefetch: int, timeout: int) -> Any:
        return self._broker.consume(queue_name, prefetch, timeout)

    def settle(self) -> None:
        """Nothing is left to be done."""


class Bells(dramatiq.Broker):
    """What rings, wherever the bells hang: the broker of the kick and of the sweep.

    Attributes:
        broker: whose workers hear the bells.
        place: where they hang; it may be the broker itself.
    """

    def __init__(self, broker: dramatiq.Broker) -> None:
        super().__init__(middleware=[])
        self.actor_options = {"max_age", "max_retries", "periodic", "time_limit"}
        self.broker, self.place = broker, _place_in(broker)

    def hang_in(self, broker: dramatiq.Broker) -> None:
        """Let the bells hang in `broker` from now on, and lend it their actors.

        Raises:
            DefinitionError: it is of an unknown kind, or has actors of these names.
        """
        if broker is self.broker:
            return
        place = _place_in(broker)
        for name, actor in self.actors.items():
            if broker.actors.get(name, actor) is not actor:
                raise DefinitionError(
                    f"your broker has an actor called {name!r}, and so has the worker;"
                    f" give yours another: @dramatiq.actor(actor_name=…)"
                )
        self.broker, self.place = broker, place
        for actor in self.actors.values():
            self._lend(actor)

    def declare_queue(self, queue_name: str) -> None:
        """Do nothing: the place has its queues."""

    def declare_actor(self, actor: Any) -> None:
        super().declare_actor(actor)
        self._lend(actor)

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        """Ring, as `ring()` does; the broker's middleware hears of it."""
        self.broker.emit_before("enqueue", message, delay)
        self.ring(message)
        self.broker.emit_after("enqueue", message, delay)
        return message

    def ring(self, message: Any) -> bool:
        """Hang the bell. Never raises; False if the place fails, or none is wanted."""
        return self.are_wanted and self.place.ring(message)

    @property
    def are_wanted(self) -> bool:
        """Whether bells hang at all (PENDING_KICKS); in a test's memory they do."""
        return settings.kicks or self.are_in_memory

    @property
    def are_in_memory(self) -> bool:
        """Whether they hang in a test's StubBroker: no process looks by itself."""
        return isinstance(self.place, StubBells)

    def settle(self) -> None:
        """Wait a moment until what was rung hangs."""
        self.place.settle()

    def _lend(self, actor: Any) -> None:
        if isinstance(self.place, StubBells):
            self.broker.declare_queue(actor.queue_name)
        if actor.actor_name not in self.broker.actors:
            self.broker.emit_before("declare_actor", actor)
            self.broker.actors[actor.actor_name] = actor
            self.broker.emit_after("declare_actor", actor)


def _place_in(broker: dramatiq.Broker) -> Any:
    if isinstance(broker, BellBroker):
        return broker
    if isinstance(broker, RedisBroker):
        return BellBroker(
            url=_plain(broker.client), namespace=broker.namespace, middleware=[]
        )
    if isinstance(broker, StubBroker):
        return StubBells(broker)
    rabbitmq = sys.modules.get("dramatiq.brokers.rabbitmq")
    if rabbitmq and isinstance(broker, rabbitmq.RabbitmqBroker):
        from .rabbit_bells import RabbitBells  # noqa: PLC0415 (pika is an extra)

        return RabbitBells(broker.parameters, settings.redis_namespace)
    raise DefinitionError(
        "bells hang in a RedisBroker, a RabbitmqBroker or a StubBroker, not in"
        f" {broker!r}"
    )


def _plain(client: Any) -> Any:
    """Return a client of one server, of which another can be made."""
    pool = client.connection_pool
    if isinstance(pool, SentinelConnectionPool) or not isinstance(pool, ConnectionPool):
        raise DefinitionError(
            f"bells hang in one Redis, not behind a {type(pool).__name__}; leave your"
            " broker as it is, and name a Redis for ours in REDIS_URL"
        )
    return client


def _own_broker() -> dramatiq.Broker:
    others = [kind() for kind in default_middleware if kind is not AgeLimit]
    expires = settings.sweep_expires.total_seconds()
    middleware = [Expires(), *others, PeriodiqMiddleware(skip_delay=expires)]
    if settings.broker_url is None:
        return BellBroker(
            url=settings.redis_url,
            namespace=settings.redis_namespace,
            middleware=middleware,
        )
    try:
        from dramatiq.brokers.rabbitmq import RabbitmqBroker  # noqa: PLC0415
    except ImportError:
        raise BadSetting(
            "BROKER_URL", "its driver is missing; pip install pika"
        ) from None
    return RabbitmqBroker(url=settings.broker_url, middleware=middleware)


#: Ours; dramatiq's own default as well, unless the application has one already.
broker = _own_broker()
if dramatiq.broker.global_broker is None:
    dramatiq.set_broker(broker)

bells = Bells(broker)
