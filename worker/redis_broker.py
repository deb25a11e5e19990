"""The broker: Redis, whose queue holds nothing but bells.

A bell says "look again". Everything about it may go wrong (Redis emptied, hung,
full or gone), and nothing may come of that but a later look: ringing never raises
and never waits long, and at most one bell of a kind hangs in the queue.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any
from uuid import uuid4

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.common import dq_name
from dramatiq.middleware import AgeLimit, SkipMessage, default_middleware
from periodiq import PeriodiqMiddleware

from .failures import headline
from .settings import settings
from .tallying import ALL, tallies

logger = logging.getLogger("pending")

#: The queue of all bells, in Redis.
BELLS = "pending"

_RINGING_SECONDS = 0.03  # the longest that a commit waits for Redis
_BROKEN_SECONDS = 5  # how long nothing is rung after Redis failed
_CONSUMING_SECONDS = 5
_BEAT_SECONDS = 10

_FAILURES = (redis.RedisError, dramatiq.ConnectionClosed, OSError)

# Hangs a bell in the queue's place for its kind: the newest one replaces the one
# that hangs there, so that a sweep is never older than the last tick. A list that
# is long all the same is somebody else's doing, and has bells enough.
# Returns 1 for a bell that is new, 2 for one that replaced another, else 0.
_HANG = """
local queue, messages = KEYS[1], KEYS[2]
local kind, id, message = ARGV[1], ARGV[2], ARGV[3]
local hung = 1
local hanging = redis.call('lrange', queue, 0, 255)
if #hanging == 256 then return 0 end
for _, other in ipairs(hanging) do
    if string.sub(other, 1, #kind) == kind then
        hung = 2
        redis.call('lrem', queue, 1, other)
        redis.call('hdel', messages, other)
    end
end
redis.call('hset', messages, id, message)
redis.call('rpush', queue, id)
return hung
"""


class BellBroker(RedisBroker):
    """dramatiq's Redis broker, with bells.

    Actors on the queue `BELLS` are bells: sent without waiting, coalesced by actor
    and arguments, forgotten when Redis fails. Other actors are as ever.

    Args:
        url: of the Redis server.
        namespace: the prefix of all keys.
    """

    def __init__(self, *, url: str, namespace: str, middleware: list[Any]) -> None:
        client = redis.Redis.from_url(
            url,
            socket_timeout=_CONSUMING_SECONDS,
            socket_connect_timeout=_CONSUMING_SECONDS,
        )
        super().__init__(client=client, namespace=namespace, middleware=middleware)
        self.local_consumers: dict[str, Any] = {}
        self.dropped = 0
        self._broken_until = 0.0
        ringing = redis.Redis.from_url(
            url,
            socket_timeout=_RINGING_SECONDS,
            socket_connect_timeout=_RINGING_SECONDS,
        )
        self._hang = ringing.register_script(_HANG)

    @property
    def consumer_class(self) -> type[_RedisConsumer]:
        return PeekingConsumer

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue; one of bells or a local one has no delay queue."""
        if queue_name != BELLS and queue_name not in self.local_consumers:
            super().declare_queue(queue_name)
        elif queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Any:
        if queue_name in self.local_consumers:
            return self.local_consumers[queue_name]()
        if queue_name == BELLS:
            return BellConsumer(self, prefetch, timeout)
        return super().consume(queue_name, prefetch, timeout)

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        if message.queue_name != BELLS:
            return super().enqueue(message, delay=delay)
        self.emit_before("enqueue", message, delay)
        self.ring(message)
        self.emit_after("enqueue", message, delay)
        return message

    def ring(self, message: Any) -> bool:
        """Hang the bell `message` in its queue. Never raises.

        Returns:
            True, or False if it was dropped: Redis failed, now or in the last 5 s.
        """
        label = str(message.args[0]) if message.args else ALL
        if time.monotonic() < self._broken_until:
            self._drop(label)
            return False
        kind = "|".join([message.actor_name, *map(str, message.args), ""])
        bell = message.copy(options={"redis_message_id": f"{kind}{uuid4()}"})
        queue = f"{self.namespace}:{message.queue_name}"
        try:
            hung = self._hang(
                keys=[queue, f"{queue}.msgs"],
                args=[kind, bell.options["redis_message_id"], bell.encode()],
            )
        except Exception as error:  # noqa: BLE001 (the caller's data is committed)
            self._broken_until = time.monotonic() + _BROKEN_SECONDS
            self._drop(label)
            logger.warning(
                "bells dropped for %d s, each worker looks by itself: %s",
                _BROKEN_SECONDS,
                headline(error),
            )
            return False
        tallies.add(label, ("kicks_sent" if hung == 1 else "kicks_coalesced", 1))
        return True

    def _drop(self, label: str) -> None:
        self.dropped += 1
        tallies.add(label, ("kicks_failed", 1))


class _Trouble:
    """Says once that Redis fails, and once that it is back."""

    def __init__(self, queue_name: str) -> None:
        self.queue_name = queue_name
        self._is_there = False

    def begins(self, error: Exception) -> None:
        if not self._is_there:
            self._is_there = True
            problem = headline(error)
            logger.warning("Redis fails queue=%s: %s", self.queue_name, problem)

    def is_over(self) -> None:
        if self._is_there:
            self._is_there = False
            logger.info("Redis is back queue=%s", self.queue_name)


class BellConsumer(dramatiq.Consumer):
    """Hears bells: waits in Redis for one, and takes it down.

    It needs no acknowledgement. If its worker dies with it, the next look at the rows
    makes good for it.
    """

    def __init__(self, broker: BellBroker, prefetch: int, timeout: int) -> None:
        self.broker, self.prefetch = broker, prefetch
        self._key = f"{broker.namespace}:{BELLS}"
        self._seconds = min(timeout / 1000, _CONSUMING_SECONDS / 2)
        self._room = threading.Semaphore(prefetch)
        self._trouble = _Trouble(BELLS)
        self._next_beat = 0.0

    def __next__(self) -> Any:
        if not self._room.acquire(timeout=self._seconds):
            return None
        message = self._next()
        if message is None:
            self._room.release()
            return None
        return dramatiq.MessageProxy(message)

    def _next(self) -> dramatiq.Message | None:
        try:
            self._beat()
            found: Any = self.broker.client.blpop([self._key], self._seconds)
            data = self._taken_down(found[1]) if found else None
        except _FAILURES as error:
            self._trouble.begins(error)
            time.sleep(min(self._seconds, 1))
            return None
        self._trouble.is_over()
        return dramatiq.Message.decode(data) if data else None

    def _beat(self) -> None:
        """Say that somebody listens here, as dramatiq's own consumers do."""
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + _BEAT_SECONDS
            key = f"{self.broker.namespace}:__heartbeats__"
            self.broker.client.zadd(key, {self.broker.broker_id: time.time() * 1000})

    def _taken_down(self, bell: bytes) -> bytes | None:
        messages = f"{self._key}.msgs"
        with self.broker.client.pipeline() as both:
            both.hget(messages, bell)
            both.hdel(messages, bell)
            found: bytes | None = both.execute()[0]
        return found

    def ack(self, message: Any) -> None:
        self._room.release()

    nack = ack

    def requeue(self, messages: Any) -> None:
        for message in messages:
            self.broker.ring(message)


class PeekingConsumer(_RedisConsumer):
    """Waits for messages in Redis instead of asking again and again.

    After an empty fetch it moves the head of the list onto itself, blocking: that
    returns the moment the list is not empty, and changes nothing. (dramatiq's own
    consumer sleeps up to a second between two fetches.) When Redis fails it says
    so once and tries again, where dramatiq's may lose its thread for good.
    """

    def __init__(
        self, broker: Any, queue_name: str, prefetch: int, timeout: int
    ) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)
        self._key = f"{broker.namespace}:{queue_name}"
        self._seconds = min(timeout / 1000, _CONSUMING_SECONDS / 2)
        self._room = threading.Event()
        self._trouble = _Trouble(queue_name)

    def __next__(self) -> Any:
        try:
            self.timeout = 0  # the wait is ours
            message = super().__next__()
            if message is None and self._wait():
                message = super().__next__()
        except _FAILURES as error:
            self._trouble.begins(error)
            time.sleep(min(self._seconds, 1))
            return None
        self._trouble.is_over()
        return message

    def _wait(self) -> bool:
        """Wait for a message, or for room; say whether there is a message."""
        if self.outstanding_message_count >= self.prefetch:
            self._room.wait(self._seconds)
            self._room.clear()
        elif self.queue_name == dq_name(self.queue_name):
            time.sleep(self._seconds)  # delayed messages need to be looked at
        else:
            client, key = self.broker.client, self._key
            return bool(client.blmove(key, key, self._seconds, "LEFT", "LEFT"))
        return False

    def ack(self, message: Any) -> None:
        self._end(super().ack, message)

    def nack(self, message: Any) -> None:
        self._end(super().nack, message)

    def requeue(self, messages: Any) -> None:
        self._end(super().requeue, messages)

    def _end(self, end: Any, messages: Any) -> None:
        try:
            end(messages)
        except _FAILURES as error:
            raise dramatiq.ConnectionClosed(error) from None
        finally:
            self._room.set()


class Expires(AgeLimit):
    """dramatiq's age limit, but what is too old is dropped, not dead-lettered."""

    def before_process_message(self, broker: Any, message: Any) -> None:
        try:
            super().before_process_message(broker, message)
        except SkipMessage:
            message.failed = False
            raise


def _middleware() -> list[Any]:
    others = [kind() for kind in default_middleware if kind is not AgeLimit]
    expires = settings.sweep_expires.total_seconds()
    return [Expires(), *others, PeriodiqMiddleware(skip_delay=expires)]


broker = BellBroker(
    url=settings.redis_url,
    namespace=settings.redis_namespace,
    middleware=_middleware(),
)
dramatiq.set_broker(broker)
