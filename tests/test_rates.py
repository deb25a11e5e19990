"""No stretch of time as long as the period has more calls than the rate says."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rates import Rate, rate_of

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/s", Rate(10, SECOND)),
        ("100/m", Rate(100, timedelta(minutes=1))),
        ("1000/h", Rate(1000, timedelta(hours=1))),
        ("5000/d", Rate(5000, timedelta(days=1))),
    ],
)
def test_a_rate_is_written_as_one_says_it(text, rate):
    assert rate_of(text) == rate


@pytest.mark.parametrize(
    "text", ["", "10", "10/w", "0/s", "-1/s", "1.5/s", "10 / s", "10/s ", "x/s", "/s"]
)
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ValueError, match="is no rate: write 10/s"):
        rate_of(text)


@pytest.mark.parametrize("given", [10, b"10/s", ["10/s"]])
def test_a_rate_is_a_text(given):
    with pytest.raises(TypeError, match="rate is a text such as '100/m'"):
        rate_of(given)


@given(
    calls=st.integers(1, 20),
    steps=st.lists(
        st.tuples(st.integers(0, 1_500), st.integers(1, 30)), min_size=1, max_size=60
    ),
)
def test_no_stretch_of_time_has_more_calls_than_the_rate(calls, steps):
    """Whoever takes all that is free, whenever, never has too many."""
    rate, begun, now, taken = Rate(calls, SECOND), [], 1_700_000_000_000, []
    for pause, wanted in steps:
        now += pause
        some = min(wanted, rate.free(begun, now))
        if some:
            begun = rate.after(begun, now, some)
            taken += [now] * some
        assert len([one for one in taken if one > now - 1_000]) <= calls
        assert len(begun) <= 102


@given(
    calls=st.integers(1, 20),
    steps=st.lists(st.integers(0, 300), min_size=1, max_size=60),
)
def test_who_waits_as_told_gets_one_and_who_comes_earlier_none(calls, steps):
    rate, begun, now = Rate(calls, SECOND), [], 1_700_000_000_000
    for pause in steps:
        now += pause
        if rate.free(begun, now):
            begun = rate.after(begun, now, 1)
            continue
        wait = rate.wait(begun, now)
        assert 0 < wait <= 1_010
        assert rate.free(begun, now + wait - 1) == 0
        assert rate.free(begun, now + wait) > 0


def test_the_whole_rate_comes_free_after_a_period_and_a_hundredth():
    rate, now = Rate(5, SECOND), 1_700_000_000_003
    begun = rate.after([], now, 5)
    assert rate.free(begun, now + 1_000) == 0
    assert rate.free(begun, now + 1_010) == 5


def test_a_clock_that_is_set_back_stops_nobody_for_longer_than_a_period():
    rate, now = Rate(5, SECOND), 1_700_000_000_000
    begun = rate.after([], now + 86_400_000, 5)
    assert rate.free(begun, now) == 0
    assert rate.wait(begun, now) <= 1_010
