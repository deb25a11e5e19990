"""What the workers do, also when one dies or the world is in trouble."""

from __future__ import annotations

import shutil
from datetime import timedelta

import httpx2
import pytest
from shop import jobs, mail, search, selling
from shop.models import Order, Product

from worker.testing import (
    assert_idle,
    assert_parked,
    assert_pending,
    crashing,
    drain,
    due_in,
)


@pytest.fixture
def order():
    lamp = selling.offer("Lamp", 2_500, "Brass and oak")
    return selling.place_order(
        lamp.id, "ann@example.com", 1, "https://ann.example/hook"
    )


@pytest.fixture
def hook(monkeypatch):
    """The customer's system: what it answers, and what it was told."""
    answers, told = [], []

    def answer(request):
        told.append(request)
        return answers.pop(0) if answers else httpx2.Response(204)

    transport = httpx2.MockTransport(answer)
    monkeypatch.setattr(jobs, "_client", httpx2.AsyncClient(transport=transport))
    return answers, told


def test_a_receipt_is_one_mail_whenever_a_worker_dies(mails):
    for crash in crashing(around=["shop.mail.send"]):
        with crash:
            shutil.rmtree(mail.OUTBOX, ignore_errors=True)
            lamp = Product.create(name="Lamp", price=1)
            order = Order.create(
                product=lamp, email="a@b.c", quantity=1, total=1, needs_receipt=True
            )
            drain(Order.needs_receipt)
            assert_idle(order, Order.needs_receipt)
            assert len(mails()) == 1


def test_a_mail_that_is_refused_is_tried_again(order, mails, monkeypatch):
    def refuse(message, *, key):
        raise ConnectionRefusedError

    with monkeypatch.context() as trouble:
        trouble.setattr(mail, "send", refuse)
        drain(Order.needs_receipt)
    assert_pending(order, Order.needs_receipt, attempts=1, error="Refused")
    due_in(timedelta(minutes=1))
    drain(Order.needs_receipt)
    assert_idle(order, Order.needs_receipt)
    assert len(mails()) == 1


def test_products_are_indexed_many_at_a_time(monkeypatch):
    Product.insert_many(
        {"name": f"Lamp {n}", "price": n, "needs_indexing": True} for n in range(300)
    ).execute()
    put, sizes = search.put, []
    monkeypatch.setattr(
        search, "put", lambda many: sizes.append(len(many)) or put(many)
    )
    assert drain() == {"finished": 300}
    assert sizes == [200, 100]
    assert [one.price for one in search.find("lamp 299")] == [299]


def test_the_customer_s_system_is_told_with_a_key(order, hook):
    _, told = hook
    drain(Order.needs_webhook)
    (request,) = told
    assert request.headers["Idempotency-Key"].startswith("order.needs_webhook:1:")
    assert_idle(order, Order.needs_webhook)


def test_one_that_is_busy_is_asked_when_it_says(order, hook):
    answers, told = hook
    answers.append(httpx2.Response(429, headers={"Retry-After": "120"}))
    assert drain(Order.needs_webhook) == {"postponed": 1}
    due_in(timedelta(seconds=60))
    assert drain(Order.needs_webhook) == {}
    due_in(timedelta(seconds=60))
    assert drain(Order.needs_webhook) == {"finished": 1}
    assert len(told) == 2


def test_one_that_fails_is_asked_again_with_the_same_key(order, hook):
    answers, told = hook
    answers.append(httpx2.Response(500))
    assert drain(Order.needs_webhook) == {"released": 1}
    due_in(timedelta(minutes=1))
    drain(Order.needs_webhook)
    first, second = (request.headers["Idempotency-Key"] for request in told)
    assert first == second


def test_one_that_is_gone_is_a_person_s_affair(order, hook):
    answers, _ = hook
    answers.append(httpx2.Response(410))
    assert drain(Order.needs_webhook) == {"parked": 1}
    assert_parked(order, Order.needs_webhook, error="wants to hear no more")
