"""Bells in RabbitMQ: a queue for each kind of bell, which holds one.

The newest replaces the one that hangs there, which RabbitMQ does by itself: the queue's
length is 1 at most. Ringing only hands the bell to a thread, so that no commit waits
for RabbitMQ, be it hung or gone.
"""

from __future__ import annotations

import copy
import logging
import os
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

import dramatiq
import pika
from pika.exceptions import AMQPError

from .breaker import Breaker
from .choosing import BELLS, SWEEPS, bells_of, kick_name
from .failures import headline
from .handlers import all_handlers
from .redis_broker import BELLS_DROPPED, Trouble
from .tallying import ALL, tallies

logger = logging.getLogger("pending")

_CONNECTING_SECONDS = 3
_BEAT_SECONDS = 10
_ENDING_SECONDS = 1

_ARGUMENTS = {
    "x-max-length": 1,
    "x-expires": 24 * 3600 * 1000,  # ms without anybody who listens or rings anew
}

# pika says each failure thrice, with tracebacks; it is said here, once.
if logging.getLogger("pika").level == logging.NOTSET:
    logging.getLogger("pika").setLevel(logging.CRITICAL)


class _Trouble(Trouble):
    fails, is_back = "RabbitMQ fails queue=%s: %s", "RabbitMQ is back queue=%s"


class RabbitBells:
    """Where bells hang: in RabbitMQ.

    Args:
        parameters: pika's, of one server or of several.
        namespace: the first word of the queues' names.
    """

    def __init__(self, parameters: Any, namespace: str) -> None:
        given = parameters if isinstance(parameters, list) else [parameters]
        self.parameters = [_bounded(one) for one in given]
        self._namespace = namespace
        self.dropped = 0
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        """Begin anew: a child has none of its parent's threads and connections."""
        self._owed: dict[str, Any] = {}
        self._is_ringing = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._breaker = Breaker()
        self._connection: Any = None

    def ring(self, message: Any) -> bool:
        """Hand the bell over to the thread that hangs it. Never raises, never waits.

        Returns:
            True, or False if it was dropped: RabbitMQ failed a moment ago.
        """
        if self._breaker.is_open:
            self._drop(message)
            return False
        with self._changed:
            self._owed[self.queue_of(message.actor_name, *message.args)] = message
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="rabbit-bells", daemon=True
                )
                self._thread.start()
        return True

    def settle(self) -> None:
        """Wait until what was rung hangs, but not for long."""
        with self._changed:
            self._changed.wait_for(
                lambda: not (self._owed or self._is_ringing), _ENDING_SECONDS
            )

    def consume(
        self, queue_name: str, prefetch: int, timeout: int
    ) -> dramatiq.Consumer:
        return RabbitConsumer(self, queue_name, prefetch, timeout)

    def connect(self) -> Any:
        """Return a new connection.

        Raises:
            pika.exceptions.AMQPError, OSError: within seconds, if there is none.
        """
        return pika.BlockingConnection(self.parameters)

    def queue_of(self, actor: str, *arguments: Any) -> str:
        """Return the name of the queue of one kind of bell."""
        return ".".join([self._namespace, BELLS, actor, *map(str, arguments)])

    def declare(self, channel: Any, queue: str) -> None:
        """Make the queue, if it is not there."""
        channel.queue_declare(queue, durable=True, arguments=_ARGUMENTS)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._owed, _BEAT_SECONDS / 2)
                owed, self._owed = self._owed, {}
                self._is_ringing = bool(owed)
            self._hang(owed)
            with self._changed:
                self._is_ringing = False
                self._changed.notify_all()

    def _hang(self, owed: dict[str, Any]) -> None:
        try:
            try:
                self._publish(owed)
            except Exception:  # noqa: BLE001 (what was idle may be dead)
                self._disconnect()
                self._publish(owed)
        except Exception as error:  # noqa: BLE001 (pika has errors of many kinds)
            self._disconnect()
            seconds = self._breaker.failed()
            if owed:
                logger.warning(BELLS_DROPPED, seconds, headline(error))
            for message in owed.values():
                self._drop(message)
        else:
            self._breaker.worked()

    def _publish(self, owed: dict[str, Any]) -> None:
        if self._connection is None:
            if not owed:
                return
            self._connection = self.connect()
            self._channel = self._connection.channel()
            self._declared: set[str] = set()
        self._connection.process_data_events(0)  # heartbeats, and whether it is closed
        for queue, message in owed.items():
            if queue not in self._declared:
                self.declare(self._channel, queue)
                self._declared.add(queue)
            self._channel.basic_publish("", queue, message.encode())
            tallies.add(_label(message), ("kicks_sent", 1))

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        _close(connection)

    def _drop(self, message: Any) -> None:
        self.dropped += 1
        tallies.add(_label(message), ("kicks_failed", 1))


class RabbitConsumer(dramatiq.Consumer):
    """Hears the bells of a queue: of its flags that have a handler here, or sweeps.

    A bell is acknowledged as it is taken down. If its worker dies with it, the next
    look at the rows makes good for it.
    """

    def __init__(
        self, bells: RabbitBells, queue_name: str, prefetch: int, timeout: int
    ) -> None:
        self._bells, self._queue_name = bells, queue_name
        self._seconds = timeout / 1000
        self._room = threading.Semaphore(prefetch)
        self._heard: deque[tuple[int, bytes]] = deque()
        self._trouble = _Trouble(queue_name)
        self._connection: Any = None

    def __next__(self) -> Any:
        try:
            message = self._next()
        except Exception as error:  # noqa: BLE001 (pika has errors of many kinds)
            self._trouble.begins(error)
            self.close()
            time.sleep(min(self._seconds, 1))
            return None
        self._trouble.is_over()
        return message

    def _next(self) -> Any:
        if self._connection is None:
            self._listen()
        heard = self._taken_down()
        if heard is None:
            self._connection.process_data_events(self._seconds)
            heard = self._taken_down()
        return dramatiq.MessageProxy(dramatiq.Message.decode(heard)) if heard else None

    def _taken_down(self) -> bytes | None:
        if not self._heard or not self._room.acquire(blocking=False):
            return None
        tag, bell = self._heard.popleft()
        self._channel.basic_ack(tag)
        return bell

    def _listen(self) -> None:
        self._heard.clear()
        self._connection = self._bells.connect()
        self._channel = self._connection.channel()
        self._channel.add_on_cancel_callback(self._stop_listening)
        self._channel.basic_qos(prefetch_count=1)  # of each queue
        kinds: list[tuple[str, ...]] = [("sweep",)]
        if self._queue_name != SWEEPS:
            flags = [handler.flag for handler in all_handlers()]
            own = [flag for flag in flags if bells_of(flag) == self._queue_name]
            kinds = [(kick_name(flag), flag.label) for flag in own]
        for queue in (self._bells.queue_of(*kind) for kind in kinds):
            self._bells.declare(self._channel, queue)
            self._channel.basic_consume(queue, self._hear)

    def _hear(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._heard.append((method.delivery_tag, body))

    def _stop_listening(self, method: Any) -> None:
        """Somebody deleted a queue: it is made anew."""
        raise AMQPError("a queue of bells was deleted")

    def ack(self, message: Any) -> None:
        self._room.release()
        with suppress(Exception):  # wakes who waits for room
            self._connection.add_callback_threadsafe(lambda: None)

    nack = ack

    def requeue(self, messages: Any) -> None:
        for message in messages:
            self._bells.ring(message)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        _close(connection)


def _label(message: Any) -> str:
    return str(message.args[0]) if message.args else ALL


def _close(connection: Any) -> None:
    with suppress(Exception):
        if connection is not None and connection.is_open:
            connection.close()


def _bounded(parameters: Any) -> Any:
    bounded = copy.copy(parameters)
    bounded.connection_attempts = 1
    bounded.heartbeat = _BEAT_SECONDS
    bounded.socket_timeout = bounded.stack_timeout = _CONNECTING_SECONDS
    bounded.blocked_connection_timeout = _CONNECTING_SECONDS
    return bounded
