"""A span for each call of a handler, where OpenTelemetry is installed.

It is linked to the request that marked the row where the model has a field
`traceparent` to remember it by; with none it carries the mark's key alone, which a
request can put into its own span. Without the package, or a provider of the
application's, all of this is next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from models.claiming import Claim
from models.finding import key_text

from .failures import describe
from .signals import HandlerSignal

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import (
        TraceContextTextMapPropagator,
    )
except ImportError:
    _tracer: Any = None
else:
    _tracer = trace.get_tracer("pending")
    _propagator = TraceContextTextMapPropagator()

_FIELD = "traceparent"  # W3C's name


def traceparent() -> str | None:
    """Return the current span in W3C's form, for a model's field `traceparent`; None
    outside of any, and without the package."""
    if _tracer is None:
        return None
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get(_FIELD)


def _links(call: Sequence[Claim]) -> list[Any]:
    """Return a link for each request that marked rows of `call`, as they tell."""
    told = dict.fromkeys(claim.row.__data__.get(_FIELD) for claim in call)
    found = [_propagator.extract({_FIELD: str(text)}) for text in told if text]
    spans = [trace.get_current_span(one).get_span_context() for one in found]
    return [trace.Link(span) for span in spans if span.is_valid]


@contextmanager
def _span(call: Sequence[Claim]) -> Iterator[None]:
    claim, label = call[0], call[0].flag.label
    facts = {
        "pending.flag": label,
        "pending.key": key_text(claim.key),
        "pending.attempt": claim.attempt,
        "pending.mark": claim.flag.key_of_mark(claim.row),
        "pending.rows": len(call),
    }
    with _tracer.start_as_current_span(
        f"handle {label}",
        kind=trace.SpanKind.CONSUMER,
        attributes=facts,
        links=_links(call),
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except HandlerSignal as signal:
            span.set_attribute("pending.signal", type(signal).__name__)
            raise
        except BaseException as error:
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(trace.StatusCode.ERROR, describe(error))
            raise


def traced(call: Sequence[Claim]) -> AbstractContextManager[None]:
    """Return the span of a call of a handler; key, attempt and mark are those of the
    first row."""
    return _span(call) if is_on() else nullcontext()


def is_on() -> bool:
    """Say whether somebody takes spans: the package alone does not."""
    if _tracer is None:
        return False
    provider = trace.get_tracer_provider()
    nobody = isinstance(provider, trace.ProxyTracerProvider)
    return not (nobody and isinstance(_tracer, trace.ProxyTracer))
