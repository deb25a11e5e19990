"""How many rows are claimed at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.pacing import Pace


def settled(*, row: float, claim: float = 0.001) -> int:
    """Return how many rows are claimed in the end, if all take as long (s)."""
    pace = Pace()
    for _ in range(10):
        pace._claimed(claim)
        pace.took(pace.rows, pace.rows * row)
    return pace.rows


def test_quick_rows_are_claimed_by_the_hundred_and_slow_ones_alone():
    assert settled(row=0.00001) == 100
    assert settled(row=0.001) == 40
    assert settled(row=1) == 1


def test_slow_claims_are_of_more_rows_if_those_are_quick():
    assert settled(row=0.00001, claim=0.02) == 200
    assert settled(row=0.00001, claim=10) == 500
    assert settled(row=0.001, claim=10) == 40


def test_it_is_learnt_anew_when_rows_turn_slow():
    pace = Pace()
    for seconds in (0.0001, 0.0001, 0.0001, 1, 1, 1, 1, 1):
        pace.took(pace.rows, pace.rows * seconds)
    assert pace.rows == 1


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.floats(0, 100), st.integers(0, 500)),
        max_size=30,
    )
)
def test_it_is_always_a_number_that_can_be_claimed(history):
    pace = Pace()
    for claim, seconds, rows in history:
        pace._claimed(claim)
        pace.took(rows, seconds)
        assert 1 <= pace.rows <= 500
