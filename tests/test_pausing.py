"""Pauses are kept in the database, and end by themselves or by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from models.operations import missing_tables
from models.pausing import ALL, pause, pauses, resume

HOUR = timedelta(hours=1)
FLAG = "order.needs_receipt"


def test_a_pause_says_why_until_when_and_by_whom(operations):
    until = datetime.now(UTC).replace(microsecond=0) + HOUR
    pause(FLAG, until=until, reason="a flood", by="dan")
    pause(ALL)
    everything, one = pauses()
    assert (everything.flag, everything.until) == (ALL, None)
    assert (one.flag, one.until, one.reason, one.by) == (FLAG, until, "a flood", "dan")
    assert abs(datetime.now(UTC) - one.at) < timedelta(minutes=1)


def test_the_last_pause_of_a_flag_counts(operations):
    pause(FLAG, reason="one")
    pause(FLAG, reason="two")
    assert [one.reason for one in pauses()] == ["two"]


def test_a_pause_ends_by_itself(operations):
    pause(FLAG, until=datetime.now(UTC) - HOUR)
    assert pauses() == []
    assert not resume(FLAG)


def test_resuming_ends_the_one_pause_and_says_whether_there_was_any(operations):
    pause(FLAG)
    pause(ALL)
    assert resume(FLAG)
    assert [one.flag for one in pauses()] == [ALL]
    assert not resume(FLAG)
    assert resume(ALL)


def test_an_end_without_a_time_zone_is_refused(operations):
    with pytest.raises(ValueError, match="no time zone"):
        pause(FLAG, until=datetime(2030, 1, 1))  # noqa: DTZ001
    assert pauses() == []


def test_it_can_be_told_which_tables_are_missing(operations):
    assert missing_tables() == []
    operations.execute_sql("DROP TABLE pending_pause")
    assert missing_tables() == ["pending_pause"]
