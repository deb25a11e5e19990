"""The log as JSON: one object an event, with the same names of facts everywhere.

`LOG_FORMAT=json` asks for it. The lines stay what they are for people; here each is
taken apart by the template that it was made from, so that no text of an error can
pass for a fact. docs/operations.md lists the events.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from models.claiming import Claim

from .observing import facts_of
from .settings import settings

#: The template of a claim's line, in `events`.
EVENT_LINE = "%s %s attempt=%d%s"

_PLACE = re.compile(r"(?:(\w+)=)?%[-+#.\d]*([a-zA-Z%])")
_NAME = re.compile(r"\W+")
_HANGING = {"after", "each", "for", "in", "of"}  # words that a number followed
_PLAIN = (int, float, bool, type(None))
_LOUD = {"pending", "dramatiq", "periodiq"}


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON: time, level, logger, pid, event, the
    event's facts, and the whole message."""

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": os.getpid(),
            **_facts(record),
            "message": record.getMessage(),
        }
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        # ASCII: no terminal is driven, and no line is broken, by what is in it.
        return json.dumps(facts, default=str)


def use_json(*, from_scratch: bool = False) -> None:
    """Let all of this process's log be JSON from now on, if LOG_FORMAT says so.

    Args:
        from_scratch: set a log up where there is none: that of a worker process
            that was started with `--skip-logging`.
    """
    if settings.log_format != "json":
        return
    if from_scratch and not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO)
    for name in (None, *_LOUD):
        for handler in logging.getLogger(name).handlers:
            handler.setFormatter(JsonFormatter())


def event_of(template: str) -> str:
    """Return the name of the event that a line made from `template` tells of: its
    first words, as in `leases_not_renewed`; none if it begins with a fact."""
    head = re.split(r"[,:;(]|\w+=%|%", template, maxsplit=1)[0]
    words = _NAME.sub(" ", head.lower()).split()
    while words and words[-1] in _HANGING:
        words.pop()
    return "_".join(words)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    if not _is_ours(record):
        return {"event": record.name.partition(".")[0]}
    template = record.msg if isinstance(record.msg, str) else ""
    arguments: tuple[Any, ...] = record.args if isinstance(record.args, tuple) else ()
    event = event_of(template)
    if not event and arguments:
        event = str(arguments[0])  # the word is an argument, as in `claimed`
    found = {"event": event or "message", **dict(_placed(template, arguments))}
    if template == EVENT_LINE:  # a claim's: its note has facts, too
        _, claim, _, note = arguments
        found |= facts_of(claim, note)
    return found


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == "pending"


def _placed(template: str, arguments: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """Yield the facts that stand as `name=%s`, claims, and the error after a colon."""
    places = [p for p in _PLACE.finditer(template) if p.group(2) != "%"]
    for place, value in zip(places, arguments, strict=False):
        if isinstance(value, Claim):
            yield from facts_of(value).items()
        elif place.group(1):
            yield place.group(1), value if isinstance(value, _PLAIN) else str(value)
        elif template[: place.start()].endswith(": "):
            yield "error", str(value)
