"""What operators do, in words."""

from __future__ import annotations

from dataclasses import dataclass

from models.states import State


@dataclass(frozen=True, slots=True)
class Verb:
    """Something that can be done to rows, or to a flag.

    Attributes:
        past: as in "3 rows retried".
        effect: what comes of it, for who is asked to confirm it.
    """

    name: str
    past: str
    effect: str


RETRY = Verb("retry", "retried", "A new mark: due at once, attempts counted anew.")
MARK = Verb("mark", "marked", "A new mark: due at once. What runs now runs once more.")
UNMARK = Verb("unmark", "unmarked", "The work is called off: it will not be done.")
PARK = Verb("park", "parked", "Workers leave it alone until somebody retries it.")
PAUSE = Verb(
    "pause",
    "paused",
    "Within two seconds workers claim no more rows. Rows in hand are finished, marks"
    " are made and kept.",
)
RESUME = Verb("resume", "resumed", "Workers claim rows again.")

VERBS = {verb.name: verb for verb in (RETRY, MARK, UNMARK, PARK, PAUSE, RESUME)}

#: What can be done to a row that is in a state, the most likely first.
VERBS_OF = {
    State.PARKED: (RETRY, UNMARK),
    State.RETRYING: (RETRY, PARK, UNMARK),
    State.DUE: (PARK, UNMARK),
    State.RUNNING: (MARK, UNMARK),
    State.SCHEDULED: (MARK, PARK, UNMARK),
    State.IDLE: (MARK,),
}
