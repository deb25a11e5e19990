"""Processes: who hears of marks and does the work.

`dramatiq worker` and `periodiq worker` find here the broker and the actors; an
application finds here what it calls.
"""

from . import booting as booting  # before all else: what follows may fail

# isort: split
from . import beside as beside

# isort: split
from models import example
from models.marking import (
    mark_pending,
    mark_pending_async,
    unmark,
    unmark_async,
)

from .brokers import broker
from .declaring import handles
from .handlers import HandlerExists
from .hooks import Failure, on_failed, on_parked, redact
from .informing import Attempt, NoAttempt, current
from .joining import use_broker
from .kicking import kick
from .signals import GiveUp, HandlerSignal, RetryLater
from .sweeping import sweep

if example.is_wanted():
    from . import welcome as welcome

__all__ = [
    "Attempt",
    "Failure",
    "GiveUp",
    "HandlerExists",
    "HandlerSignal",
    "NoAttempt",
    "RetryLater",
    "broker",
    "current",
    "handles",
    "kick",
    "mark_pending",
    "mark_pending_async",
    "on_failed",
    "on_parked",
    "redact",
    "sweep",
    "unmark",
    "unmark_async",
    "use_broker",
]
