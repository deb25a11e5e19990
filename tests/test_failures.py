"""The text of a failure: whatever was raised, it can be stored and read."""

from __future__ import annotations

from datetime import timedelta

import peewee
import pytest
from domain import Order
from steps import marked_and_claimed

from models.finishing import release
from worker.failures import clean, describe, headline, is_missing_table, remedy


class Unprintable(Exception):
    """Cannot even say what is wrong."""

    def __str__(self):
        raise RuntimeError("no words")


class Liar(Exception):
    """Says something that is no text."""

    def __str__(self):
        return 5  # noqa: PLE0307 (that is the point)


def raised(error):
    """Return `error` after it was raised, as a handler would."""
    secret = "in a local variable"  # noqa: F841
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001
        return caught


def circular():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    return one


FAILURES = {
    "nul": (ValueError("a\0b"), r"ValueError: a\0b"),
    "lone surrogate": (ValueError("a\ud800b"), r"ValueError: a\ud800b"),
    "beyond the BMP": (ValueError("🐟 ü"), "ValueError: 🐟 ü"),
    "20 MB": (ValueError("x" * 20_000_000), "ValueError: xxx"),
    "20 MB of fish": (ValueError("🐟" * 5_000_000), "ValueError: 🐟"),
    "20 MB of surrogates": (ValueError("\ud800" * 9_999_999), "ValueError: \\ud800"),
    "20 MB of nul": (ValueError("\0" * 20_000_000), r"ValueError: \0"),
    "unprintable": (Unprintable(), "Unprintable: <exception str() failed>"),
    "no text": (Liar(), "Liar: <exception str() failed>"),
    "circular causes": (circular(), "ValueError: one"),
    "a group": (ExceptionGroup("many", [ValueError("x")]), "ExceptionGroup: many"),
    "no message": (KeyboardInterrupt(), "KeyboardInterrupt"),
    "syntax": (SyntaxError("bad", ("f", None, None, "\ud800")), "SyntaxError: bad"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_any_failure_can_be_stored_and_is_read_back(database, name):
    error, words = FAILURES[name]
    text = describe(raised(error))
    held = marked_and_claimed(Order.needs_receipt, Order.create())
    assert release(held, wait=timedelta(hours=1), error=text)
    stored = Order.get_by_id(held.row.id).needs_receipt_error
    assert stored == text
    assert words in stored
    assert len(stored) <= 4_000


def test_the_place_is_the_line_that_raised():
    line = raised.__code__.co_firstlineno + 4
    text = describe(raised(ValueError("boom")))
    assert text == f"ValueError: boom ({__file__}:{line} in raised)"


def test_the_place_is_kept_however_long_the_message():
    assert describe(raised(ValueError("x" * 9_999))).endswith(" in raised)")


def test_both_ends_of_a_long_message_are_kept():
    text = describe(ValueError(f"start {'x' * 9_999} end"))
    assert text.startswith("ValueError: start xxx")
    assert text.endswith("xxx end")
    assert " […] " in text


def test_no_values_of_variables_are_told():
    assert "in a local variable" not in describe(raised(ValueError("boom")))


def test_the_name_of_an_error_class_tells_its_module():
    assert describe(Liar()).startswith(f"{__name__}.Liar: ")


def test_a_headline_is_one_line_whatever_was_raised():
    assert headline(ValueError("\nboom\nLINE 1: SELECT")) == "boom"
    assert headline(TimeoutError()) == "TimeoutError"


def test_clean_text_stays_as_it_is():
    assert clean("Grüße, 你好 🐟\n") == "Grüße, 你好 🐟\n"


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT 1 FROM no_such", "; run `pending migrate`, or create_table() of your"),
        ("SELECT no_such FROM ticket", "; `pending doctor` names the columns"),
        ("INSERT INTO ticket (no_such) VALUES (1)", "; `pending doctor` names"),
        ("SELECT nonsense nonsense nonsense", None),
    ],
)
def test_what_a_database_says_has_a_remedy(database, sql, words):
    with pytest.raises(peewee.DatabaseError) as raised, database.atomic():
        database.execute_sql(sql)
    assert is_missing_table(raised.value) == ("FROM no_such" in sql)
    assert remedy(raised.value).startswith(words or "")
    assert bool(remedy(raised.value)) == bool(words)
