"""What a user may get wrong. Each line that says `# error` is reported."""

from __future__ import annotations

from shop import Customer, Order, due

from worker import handles, mark_pending, mark_pending_async, unmark


@handles(Customer.needs_greeting)  # error
def takes_another_model(order: Order) -> None: ...


@handles(Order.needs_index, batch=10)  # error
def takes_a_row_of_a_batch(order: Order) -> None: ...


@handles(Order.needs_index)  # error
def takes_a_batch_of_rows(orders: list[Order]) -> None: ...


@handles(Order.needs_index, batch=10)  # error
def returns_what_tells_nothing(orders: list[Order]) -> int:
    return len(orders)


@handles(Customer.needs_greeting)  # error
async def takes_another_model_too(order: Order) -> None: ...


@handles(Customer.needs_greeting)  # error
def takes_nothing() -> None: ...


@handles(Customer.needs_greeting)  # error
def takes_too_much(customer: Customer, subject: str) -> None: ...


@handles(Customer.email)  # error
def handles_no_flag(customer: Customer) -> None: ...


@handles(Customer.needs_greeting, attempt=3)  # error
def has_a_wrong_option(customer: Customer) -> None: ...


@handles(Customer.needs_greeting, wait=10)  # error
def has_an_option_of_a_wrong_type(customer: Customer) -> None: ...


class Printer:
    def __call__(self, order: Order) -> None: ...


handles(Customer.needs_greeting)(Printer())  # error


async def marks(customer: Customer, order: Order) -> None:
    mark_pending(customer, Order.needs_receipt)  # error
    mark_pending(Customer.select(), Order.needs_receipt)  # error
    mark_pending(Customer, Customer.needs_greeting)  # error
    mark_pending(customer, True)  # error
    mark_pending(customer, Customer.needs_greeting, delay=3)  # error
    unmark(customer, Order.needs_receipt)  # error
    await mark_pending_async(customer, Order.needs_receipt)  # error
    Order.needs_receipt.key_of_mark(customer)  # error
    customer.needs_greeting = "yes"  # error
    due(Customer.needs_greeting)  # error


def reads(customer: Customer) -> str:
    return customer.needs_greeting  # error
