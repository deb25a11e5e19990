"""Is everything set up? Databases, Redis, clock, workers, handlers: a finding each.

Each says what to do. Nothing is changed, and nothing is waited for longer than 10 s.
"""

from __future__ import annotations

from collections.abc import Iterator

from models.inspecting import Finding, Level
from models.operations import the_database

from ..overview import Overview, known_flags, overview
from . import bells, databases, processes


def examined() -> Iterator[Finding]:
    """Yield what was found, part by part; failures and warnings say what to do."""
    flags = known_flags()
    answering = []
    for one in databases.of(flags):
        finding = databases.answers(one)
        yield finding
        if finding.level is Level.OK:
            answering.append(one)
            yield from databases.host_clock(one)
            yield from databases.long_transactions(one)
    for flag in flags:
        if flag.database in answering:
            yield from databases.inspected_flag(flag)
    found: Overview | None = None
    waiting: list[str] = []
    if the_database() in answering:
        refused = databases.refused()
        yield from refused
        waiting = yield from databases.migrations()
        found = None if refused else overview(flags)
    working = found is not None and found.workers > 0
    yield from bells.examined(flags, workers=working)
    if found is not None:
        yield from processes.examined(flags, found, waiting)
