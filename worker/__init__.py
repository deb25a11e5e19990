"""Processes: who hears of marks and does the work.

`dramatiq worker` and `periodiq worker` find here the broker and the actors; an
application finds here what it calls.
"""

from models.marking import mark_pending, unmark

from . import processes as processes
from . import welcome as welcome
from .handlers import GiveUp, HandlerExists, HandlerSignal, RetryLater, handles
from .hooks import Failure, on_failed, on_parked, redact
from .kicking import kick
from .redis_broker import broker
from .sweeping import sweep

__all__ = [
    "Failure",
    "GiveUp",
    "HandlerExists",
    "HandlerSignal",
    "RetryLater",
    "broker",
    "handles",
    "kick",
    "mark_pending",
    "on_failed",
    "on_parked",
    "redact",
    "sweep",
    "unmark",
]
