"""Bells in Redis, whose queue holds nothing else.

A bell says "look again". Everything about it may go wrong (Redis emptied, hung,
full or gone), and nothing may come of that but a later look: ringing never raises
and never waits long, and at most one bell of a kind hangs in the queue.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import Any, cast

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.common import dq_name
from dramatiq.middleware import AgeLimit, SkipMessage

from .breaker import Breaker
from .choosing import is_of_bells
from .failures import headline
from .tallying import ALL, tallies

logger = logging.getLogger("pending")

#: The line of the log when bells cannot be rung.
BELLS_DROPPED = "bells dropped for %g s, each worker looks by itself: %s"

_RINGING_SECONDS = 0.03  # the longest that a commit waits for Redis
_CONSUMING_SECONDS = 5
_BEAT_SECONDS = 10
_YIELDING_SECONDS = 0.002

_TEXT = "\n"  # begins the text of a bell within what it is known by

#: What another client's connections are told, and ours are not.
_NOT_OURS = {"retry", "retry_on_error", "retry_on_timeout", "decode_responses"}

_FAILURES = (redis.RedisError, dramatiq.ConnectionClosed, OSError)

# Hangs a bell in the queue's place for its kind: the newest one replaces the one
# that hangs there, so that a sweep is never older than the last tick. A list that
# is long all the same is somebody else's doing, and has bells enough. It hangs before
# those of a greater number: what is fetched is begun at once, so the list is the order.
# Texts without a bell are those of bells that were heard: their worker took them down,
# or died.
# Returns 1 for a bell that is new, 2 for one that replaced another, else 0.
_HANG = """
local queue, messages = KEYS[1], KEYS[2]
local kind, id, message = ARGV[1], ARGV[2], ARGV[3]
local function priority(bell)
    return tonumber(string.match(bell, '^[^|]*%.(-?%d+)|') or 0)
end
local hung, next = 1, nil
local hanging = redis.call('lrange', queue, 0, 255)
if #hanging == 256 then return 0 end
for _, other in ipairs(hanging) do
    if string.sub(other, 1, #kind) == kind then
        hung = 2
        redis.call('lrem', queue, 1, other)
        redis.call('hdel', messages, other)
    elseif not next and priority(other) > priority(id) then
        next = other
    end
end
redis.call('hset', messages, id, message)
if #hanging == 0 then
    for _, other in ipairs(redis.call('hkeys', messages)) do
        if other ~= id then redis.call('hdel', messages, other) end
    end
end
if next then
    redis.call('linsert', queue, 'before', next, id)
else
    redis.call('rpush', queue, id)
end
return hung
"""


class BellBroker(RedisBroker):
    """dramatiq's Redis broker, with bells.

    Actors on queues of bells are bells: sent without waiting, coalesced by actor
    and arguments, forgotten when Redis fails. Other actors are as ever.

    Args:
        url: of the Redis server; or another broker's client of it.
        namespace: the prefix of all keys.
    """

    def __init__(
        self, *, url: str | redis.Redis, namespace: str, middleware: list[Any]
    ) -> None:
        client = _client(url, _CONSUMING_SECONDS)
        super().__init__(client=client, namespace=namespace, middleware=middleware)
        self.dropped = 0
        self.breaker = Breaker()
        self._hang = _client(url, _RINGING_SECONDS).register_script(_HANG)

    @property
    def consumer_class(self) -> type[_RedisConsumer]:
        return PeekingConsumer

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue; those of bells have no delay queue."""
        if not is_of_bells(queue_name):
            super().declare_queue(queue_name)
        elif queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Any:
        if is_of_bells(queue_name):
            return BellConsumer(self, queue_name, prefetch, timeout)
        return super().consume(queue_name, prefetch, timeout)

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        if not is_of_bells(message.queue_name):
            return super().enqueue(message, delay=delay)
        self.emit_before("enqueue", message, delay)
        self.ring(message)
        self.emit_after("enqueue", message, delay)
        return message

    def ring(self, message: Any) -> bool:
        """Hang the bell `message` in its queue. Never raises.

        Returns:
            True, or False if it was dropped: Redis failed, now or a moment ago.
        """
        label = str(message.args[0]) if message.args else ALL
        if self.breaker.is_open:
            self._drop(label)
            return False
        kind = "|".join([message.actor_name, *map(str, message.args), ""])
        # The whole of it is in what it is known by, so that who hears it need not ask.
        known_by = f"{kind}{_TEXT}{message.encode().decode('latin-1')}"
        bell = message.copy(options={"redis_message_id": known_by})
        queue = f"{self.namespace}:{message.queue_name}"
        try:
            hung = self._hang(
                keys=[queue, f"{queue}.msgs"], args=[kind, known_by, bell.encode()]
            )
        except Exception as error:  # noqa: BLE001 (the caller's data is committed)
            seconds = self.breaker.failed()
            self._drop(label)
            logger.warning(BELLS_DROPPED, seconds, headline(error))
            return False
        self.breaker.worked()
        tallies.add(label, ("kicks_sent" if hung == 1 else "kicks_coalesced", 1))
        return True

    def settle(self) -> None:
        """Nothing is left to be done: what was rung hangs, or was dropped."""

    def _drop(self, label: str) -> None:
        self.dropped += 1
        tallies.add(label, ("kicks_failed", 1))


class Trouble:
    """Says once that Redis fails, and once that it is back."""

    fails, is_back = "Redis fails queue=%s: %s", "Redis is back queue=%s"

    def __init__(self, queue_name: str) -> None:
        self.queue_name = queue_name
        self._is_there = False

    def begins(self, error: Exception) -> None:
        if not self._is_there:
            self._is_there = True
            logger.warning(self.fails, self.queue_name, headline(error))

    def is_over(self) -> None:
        if self._is_there:
            self._is_there = False
            logger.info(self.is_back, self.queue_name)


class BellConsumer(dramatiq.Consumer):
    """Hears bells: waits in Redis for one, and takes it down.

    It needs no acknowledgement. If its worker dies with it, the next look at the rows
    makes good for it.
    """

    def __init__(
        self, broker: BellBroker, queue_name: str, prefetch: int, timeout: int
    ) -> None:
        self.broker, self.prefetch = broker, prefetch
        self._key = f"{broker.namespace}:{queue_name}"
        self._messages = f"{self._key}.msgs"
        self._heard: list[bytes] = []  # and not yet taken down
        self._seconds = min(timeout / 1000, _CONSUMING_SECONDS / 2)
        self._room = threading.Semaphore(prefetch)
        self._trouble = Trouble(queue_name)
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
            self._take_down()
            found: Any = self.broker.client.blpop([self._key], self._seconds)
            data = self._text_of(found[1]) if found else None
        except _FAILURES as error:
            self._trouble.begins(error)
            time.sleep(min(self._seconds, 1))
            return None
        self._trouble.is_over()
        return dramatiq.Message.decode(data) if data else None

    def _text_of(self, bell: bytes) -> bytes | None:
        self._heard.append(bell)
        text = bell.decode().partition(_TEXT)[2]
        if text:
            return text.encode("latin-1")
        # One that was hung by dramatiq's own broker.
        return cast("bytes | None", self.broker.client.hget(self._messages, bell))

    def _take_down(self) -> None:
        """Once a thread has claimed: it need not wait, not even for Python's lock."""
        if self._heard:
            time.sleep(_YIELDING_SECONDS)
            self.broker.client.hdel(self._messages, *self._heard)
            self._heard.clear()

    def _beat(self) -> None:
        """Say that somebody listens here, as dramatiq's own consumers do."""
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + _BEAT_SECONDS
            key = f"{self.broker.namespace}:__heartbeats__"
            self.broker.client.zadd(key, {self.broker.broker_id: time.time() * 1000})

    def ack(self, message: Any) -> None:
        self._room.release()

    nack = ack

    def requeue(self, messages: Any) -> None:
        for message in messages:
            self.broker.ring(message)

    def close(self) -> None:
        with contextlib.suppress(*_FAILURES):
            self._take_down()


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
        self._trouble = Trouble(queue_name)

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
    """dramatiq's age limit, but bells too old are dropped, and not dead-lettered."""

    def before_process_message(self, broker: Any, message: Any) -> None:
        try:
            super().before_process_message(broker, message)
        except SkipMessage:
            if is_of_bells(message.queue_name):
                message.failed = False
            raise


def _client(server: str | redis.Redis, seconds: float) -> redis.Redis:
    """Return a client that waits `seconds` at most, and tries nothing twice."""
    waits = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    if isinstance(server, str):
        return redis.Redis.from_url(server, **waits)
    pool = server.connection_pool
    given = {k: v for k, v in pool.connection_kwargs.items() if k not in _NOT_OURS}
    own = redis.ConnectionPool(pool.connection_class, **{**given, **waits})
    return redis.Redis(connection_pool=own)
