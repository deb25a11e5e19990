"""A span for each call of a handler, where OpenTelemetry is installed.

No column of the row holds the trace that it was marked in, so the span is not linked
to that one: it carries the mark's key instead, which a request can put into its own.
Without the package, or a provider of the application's, all of this is next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from models.claiming import Claim
from models.finding import key_text

from .failures import describe
from .handlers import HandlerSignal

try:
    from opentelemetry import trace
except ImportError:
    _tracer: Any = None
else:
    _tracer = trace.get_tracer("pending")


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
