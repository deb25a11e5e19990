"""Its broker, as dramatiq has it, with middleware of its own."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker

from worker import use_broker

URL, NAME = os.environ["STORE_BROKER"], os.environ["STORE_NAME"]


class Counting(dramatiq.Middleware):
    """Writes down which messages it has seen."""

    def before_process_message(self, broker: Any, message: Any) -> None:
        print("counted", message.actor_name, *message.args, flush=True)  # noqa: T201


broker: dramatiq.Broker
if URL.startswith("amqp"):
    broker = RabbitmqBroker(url=URL)
else:
    broker = RedisBroker(url=URL, namespace=NAME)
broker.add_middleware(Counting())
dramatiq.set_broker(broker)
use_broker(broker)
