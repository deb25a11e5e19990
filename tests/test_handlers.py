"""Registration: one function a flag, and what becomes of its failures."""

from __future__ import annotations

from datetime import timedelta

import pytest
from domain import Order, Seat, Shipped
from hypothesis import given
from hypothesis import strategies as st

from models import DefinitionError, NotAFlag, PendingFlag
from models.gating import Limits
from models.rates import Rate
from worker import GiveUp, HandlerExists, RetryLater, handles
from worker.handlers import Handler, all_handlers, handler_named

pytestmark = pytest.mark.usefixtures("handlers")

SECOND, YEAR = timedelta(seconds=1), timedelta(days=365)


class Mixin:
    """No model, so peewee never hears of its flag."""

    needs_polish = PendingFlag()


class Polished(Mixin, Order):
    """Inherits a flag that is none."""


def stock_up(row):
    """A handler for the tests to register."""


def test_the_decorated_function_is_registered_and_returned_unchanged():
    assert handles(Order.needs_receipt)(stock_up) is stock_up
    handler = handler_named(Order.needs_receipt.label)
    assert (handler.flag, handler.function) == (Order.needs_receipt, stock_up)
    assert (handler.attempts, handler.wait) == (10, timedelta(seconds=10))
    assert handler.longest_wait == timedelta(hours=1)
    assert handler in all_handlers()


def test_a_flag_inherited_is_another_flag_than_the_base_s():
    handles(Shipped.needs_label)(stock_up)
    handles(Order.needs_label)(stock_up)
    labels = [handler.flag.label for handler in all_handlers()]
    assert labels[-2:] == ["shipped.needs_label", "order.needs_label"]


def test_a_name_without_a_handler_has_none():
    assert handler_named("nobody.needs_anything") is None


def test_a_second_handler_is_refused_and_both_places_are_named():
    handles(Order.needs_receipt)(stock_up)
    with pytest.raises(HandlerExists) as refusal:

        @handles(Order.needs_receipt)
        def another(row):
            """Comes too late."""

    text, line = str(refusal.value), stock_up.__code__.co_firstlineno
    assert text.startswith("order.needs_receipt has two handlers: ")
    assert f"{__name__}.stock_up ({__file__}:{line})" in text
    assert f".another ({__file__}:" in text
    assert isinstance(refusal.value, DefinitionError)
    assert handler_named(Order.needs_receipt.label).function is stock_up


def test_the_same_function_may_handle_several_flags():
    handles(Order.needs_receipt)(stock_up)
    handles(Seat.needs_cleaning)(stock_up)
    assert handler_named(Seat.needs_cleaning.label).function is stock_up


@pytest.mark.parametrize(
    "stranger",
    [
        Order.customer,
        "order.needs_receipt",
        PendingFlag(),
        Mixin.needs_polish,
        Polished.needs_polish,
        Order,
        None,
    ],
    ids=["field", "name", "unbound", "mixin", "inherited mixin", "model", "none"],
)
def test_what_is_no_flag_of_a_model_is_refused_where_it_stands(stranger):
    before = all_handlers()
    with pytest.raises(NotAFlag) as refusal:
        handles(stranger)(stock_up)
    line = stock_up.__code__.co_firstlineno
    assert f"@handles at {__name__}.stock_up ({__file__}:{line})" in str(refusal.value)
    assert isinstance(refusal.value, TypeError)
    assert all_handlers() == before


def test_a_callable_without_code_can_handle_too():
    class Robot:
        def __call__(self, row):
            """Handle."""

    handles(Order.needs_receipt)(Robot())
    assert "Robot" in handler_named(Order.needs_receipt.label).place


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attempts": 0}, "attempts is below 1: 0"),
        ({"attempts": -1}, "attempts is below 1: -1"),
        ({"wait": timedelta(0)}, "wait is not above zero: 0:00:00"),
        ({"wait": -SECOND}, "wait is not above zero: -1 day, 23:59:59"),
        ({"wait": 2 * SECOND, "longest_wait": SECOND}, "wait is longer than longest_"),
        ({"time_limit": timedelta(0)}, "time_limit is not above zero: 0:00:00"),
        ({"max_crashes": 0}, "max_crashes is below 1: 0"),
        ({"concurrency": 0}, "concurrency is below 1: 0"),
        ({"rate": "fast"}, "'fast' is no rate: write 10/s"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        handles(Order.needs_receipt, **options)


@pytest.mark.parametrize("name", ["wait", "longest_wait", "time_limit"])
def test_a_span_that_is_a_bare_number_is_refused(name):
    with pytest.raises(TypeError, match=f"^{name} is a timedelta, not 5$"):
        handles(Order.needs_receipt, **{name: 5})


@pytest.mark.parametrize("name", ["attempts", "batch", "concurrency"])
@pytest.mark.parametrize("number", ["5", 1.5, True])
def test_a_number_that_is_none_is_refused(name, number):
    with pytest.raises(TypeError, match=f"^{name} is a whole number, not "):
        handles(Order.needs_receipt, **{name: number})


def test_a_rate_that_is_no_text_is_refused():
    with pytest.raises(TypeError, match=r"^rate is a text such as '100/m', not 100$"):
        handles(Order.needs_receipt, rate=100)


@pytest.mark.parametrize(
    "fields",
    [
        "customer",
        Seat.room,
        Order.needs_receipt,
        Order.needs_receipt_due,
        (Order.customer, "total"),
        [Order.customer, Seat.room],
    ],
)
def test_rows_are_serialized_by_fields_of_their_model_alone(fields):
    with pytest.raises(DefinitionError, match="serialize_by of order"):
        handles(Order.needs_receipt, serialize_by=fields)(stock_up)
    assert handler_named(Order.needs_receipt.label) is None


def test_a_field_may_be_inherited_and_several_may_be_given():
    handles(Order.needs_receipt, serialize_by=[Order.customer, Order.total])(stock_up)
    found = handler_named(Order.needs_receipt.label).serialize_by
    assert [field.name for field in found] == ["customer", "total"]
    handles(Order.needs_label, serialize_by=Order.customer)(stock_up)
    names = [
        index._name for flag in Order._meta.flags for index in flag.order_indexes()
    ]
    assert len(names) == len(set(names)) == 4


def test_limits_are_what_was_given_and_none_are_none():
    handles(Order.needs_receipt)(stock_up)
    assert handler_named(Order.needs_receipt.label).limits is None
    handles(Order.needs_label, concurrency=2, rate="3/h")(stock_up)
    limits = handler_named(Order.needs_label.label).limits
    assert limits == Limits(2, Rate(3, timedelta(hours=1)), ())


def test_a_decorator_without_its_flag_is_refused():
    with pytest.raises(NotAFlag, match="needs a flag of a model"):

        @handles
        def forgotten(order):
            """Nobody would ever call it."""


async def asynchronous(order):
    """Called, it gives a coroutine."""


def generator(order):
    """Called, it gives a generator."""
    yield order


async def asynchronous_generator(order):
    yield order


@pytest.mark.parametrize("function", [generator, asynchronous_generator])
def test_a_function_that_does_nothing_when_called_is_refused(handlers, function):
    """Its rows would be finished, and nothing done."""
    with pytest.raises(
        DefinitionError, match=f"{function.__name__} .* plain or an async"
    ):
        handles(Order.needs_receipt)(function)
    assert handler_named(Order.needs_receipt.label) is None


def of_nothing():
    """There is no row in it."""


def of_two(order, customer):
    """Whose customer?"""


@pytest.mark.parametrize("function", [of_nothing, of_two])
@pytest.mark.parametrize("batch", [None, 10])
def test_a_function_that_cannot_be_called_with_a_row_is_refused(
    handlers, function, batch
):
    """It would fail at each attempt."""
    with pytest.raises(DefinitionError, match=f"{function.__name__} .* called with"):
        handles(Order.needs_receipt, batch=batch)(function)
    assert handler_named(Order.needs_receipt.label) is None


def test_a_wait_is_no_number():
    with pytest.raises(TypeError, match="wait is a timedelta, not 5"):
        RetryLater(5)


def test_a_negative_wait_is_refused():
    with pytest.raises(ValueError, match="wait is negative"):
        RetryLater(-SECOND)


def test_signals_say_their_reason():
    assert str(RetryLater(SECOND, "shop is closed")) == "shop is closed"
    assert str(RetryLater(SECOND)) == "due again in 0:00:01"
    assert str(GiveUp("no such street")) == "no such street"


@given(
    attempt=st.integers(1, 32_767),
    wait=st.timedeltas(timedelta(milliseconds=1), YEAR),
    longer=st.timedeltas(timedelta(0), YEAR),
)
def test_the_back_off_doubles_up_to_the_longest_wait(attempt, wait, longer):
    handler = Handler(Order.needs_receipt, stock_up, 32_767, wait, wait + longer)
    expected = min(wait.total_seconds() * 2.0 ** (min(attempt, 100) - 1), 1e10)
    expected = min(expected, (wait + longer).total_seconds())
    found = handler.back_off(attempt).total_seconds()
    assert 0.899 * expected <= found <= 1.101 * expected


def test_rows_that_failed_together_do_not_come_back_together():
    handler = Handler(Order.needs_receipt, stock_up, 10, SECOND, SECOND)
    assert len({handler.back_off(1) for _ in range(100)}) > 50
