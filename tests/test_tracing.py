"""A span for each call of a handler."""

from __future__ import annotations

import pytest
from domain import Order
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from peewee import CharField
from python import run_python
from work import drained, orders

from models import PendingFlag, PendingModel
from worker import GiveUp, redact, tracing
from worker.hooks import _redactions

FLAG = Order.needs_receipt
EXPORTER = InMemorySpanExporter()


@pytest.fixture(autouse=True)
def spans(monkeypatch):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("pending"))
    EXPORTER.clear()
    yield EXPORTER
    provider.shutdown()
    EXPORTER._stopped = False


@pytest.mark.usefixtures("database")
def test_a_call_is_a_span_that_names_the_row_and_its_mark(spans):
    (row,) = orders(1)
    seen = []

    def handle(order):
        seen.append(FLAG.key_of_mark(order))
        with trace.get_tracer("application").start_as_current_span("mail"):
            assert trace.get_current_span() is not None

    drained(FLAG, handle)
    (span,) = [one for one in spans.get_finished_spans() if one.name != "mail"]
    assert span.name == f"handle {FLAG.label}"
    assert dict(span.attributes) == {
        "pending.flag": FLAG.label,
        "pending.key": str(row.id),
        "pending.attempt": 1,
        "pending.mark": seen[0],
        "pending.rows": 1,
    }


class Parcel(PendingModel):
    """Remembers the request that marked it."""

    traceparent = CharField(null=True, default=tracing.traceparent)
    needs_stamp = PendingFlag()


@pytest.mark.parametrize("told", ["its own", None, "nonsense"])
def test_a_call_is_linked_to_the_request_that_marked_the_row(database, spans, told):
    assert tracing.traceparent() is None
    with database.bind_ctx([Parcel]):
        Parcel.create_table()
        try:
            with tracing._tracer.start_as_current_span("POST /parcels"):
                row = Parcel.create(needs_stamp=True)
            if told != "its own":
                Parcel.update(traceparent=told).where(Parcel.id == row.id).execute()
            drained(Parcel.needs_stamp, lambda parcel: None)
        finally:
            Parcel.drop_table()
    request, call = spans.get_finished_spans()
    linked = [request.context.span_id] if told == "its own" else []
    assert [link.context.span_id for link in call.links] == linked
    assert call.context.trace_id != request.context.trace_id


@pytest.mark.usefixtures("database")
def test_a_failure_is_the_span_s_as_it_is_the_row_s(spans):
    def fail(order):
        raise ValueError("secret is 42")

    redaction = redact(lambda text: text.replace("42", "…"))
    try:
        orders(1)
        drained(FLAG, fail)
    finally:
        _redactions.remove(redaction)
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.status.description.startswith("ValueError: secret is …")
    assert span.events == ()  # no traceback with what the redaction took out
    assert span.attributes["error.type"] == "ValueError"


@pytest.mark.usefixtures("database")
def test_a_signal_is_no_error(spans):
    def give_up(order):
        raise GiveUp("no paper")

    orders(1)
    drained(FLAG, give_up)
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is trace.StatusCode.UNSET
    assert span.attributes["pending.signal"] == "GiveUp"


def test_without_the_package_nothing_is_traced():
    code = """
import sys
sys.modules["opentelemetry"] = None
from worker.tracing import traced
with traced(None):
    print("done", "opentelemetry.trace" in sys.modules)
"""
    assert run_python(code).stdout == "done False\n"
