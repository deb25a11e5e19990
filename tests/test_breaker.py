"""A breaker is open for longer and longer, and closed by the first success."""

from __future__ import annotations

import pytest

from worker import breaker
from worker.breaker import Breaker


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(breaker.time, "monotonic", lambda: now[0])
    return now


def test_it_is_open_twice_as_long_with_each_failure_in_a_row_up_to_five_seconds(clock):
    one = Breaker()
    assert not one.is_open
    for seconds in (0.25, 0.5, 1, 2, 4, 5, 5):
        assert one.failed() == seconds
        assert one.is_open
        clock[0] += seconds
        assert not one.is_open


def test_a_success_makes_it_forget(clock):
    one = Breaker()
    one.failed()
    one.failed()
    one.worked()
    assert not one.is_open
    assert one.failed() == 0.25
