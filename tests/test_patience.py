"""Questions that may get no answer."""

from __future__ import annotations

from threading import Event

import pytest
from waiting import wait_for

from worker.patience import Patience


def test_an_answer_is_returned_and_the_question_may_be_asked_again():
    patience = Patience(60)
    assert [patience.ask("a", lambda n=n: n) for n in range(3)] == [0, 1, 2]


def test_what_the_question_raises_is_the_asker_s():
    patience = Patience(60)
    with pytest.raises(KeyError):
        patience.ask("a", lambda: {}["b"])
    assert patience.ask("a", lambda: 1) == 1


def test_one_that_hangs_is_asked_once_and_keeps_no_other_waiting():
    patience, answer, asked = Patience(0.01), Event(), []

    def hang():
        asked.append(1)
        return answer.wait(60)

    for _ in range(3):
        with pytest.raises(TimeoutError):
            patience.ask("a", hang)
    assert len(asked) == 1
    assert Patience(60).ask("b", lambda: 2) == 2
    answer.set()
    wait_for(lambda: not patience._asked, what="answered")
    assert patience.ask("a", lambda: 3) == 3
