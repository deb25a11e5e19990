"""For tests of applications: work is done, time passes and workers die in-process.

Needs no server, no other thread and no commit: a test may roll back all it did.
"""

from .crashes import Crash, crashing
from .draining import Drained, Run, drain
from .noting import Mark, flush, kicks, marks
from .states import assert_idle, assert_parked, assert_pending, due_in

__all__ = [
    "Crash",
    "Drained",
    "Mark",
    "Run",
    "assert_idle",
    "assert_parked",
    "assert_pending",
    "crashing",
    "drain",
    "due_in",
    "flush",
    "kicks",
    "marks",
]
