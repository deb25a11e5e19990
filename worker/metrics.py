"""Metrics in Prometheus' words, read from the database when they are asked for.

So they are right with any number of worker processes, and with none; any one process
that can reach the database tells of all. `REGISTRY.register(PendingCollector())` adds
them to an application's own; the dashboard has them at `/metrics`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import partial
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from models.connection import connected
from models.operations import ALL, the_database
from models.states import State
from models.tallies import BUCKETS, histogram, totals

from .overview import Overview, Standing, overview

#: Always this one: in OpenMetrics a gauge and a counter could not both be "parked".
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_STATES = {
    State.DUE: "Rows that wait for a worker.",
    State.SCHEDULED: "Rows that are not due yet.",
    State.RUNNING: "Rows that a worker holds.",
    State.RETRYING: "Rows that failed, and are not due again yet.",
    State.PARKED: "Rows that were given up: they wait for a person.",
}

_COUNTERS = {
    "finished": "Rows whose work was done.",
    "failed": "Attempts that failed: released, or parked.",
    "released": "Attempts that failed, of rows that are tried again.",
    "parked": "Rows that were given up.",
    "postponed": "Attempts that ended with RetryLater, or without the database.",
    "lost": "Attempts whose lease ran out.",
    "crashed": "Claims of a row whose last worker died.",
    "kicks_sent": "Bells rung.",
    "kicks_coalesced": "Bells that hung already.",
    "kicks_failed": "Bells that Redis did not take.",
}

_HISTOGRAMS = {
    "pending_handler_seconds": ("duration", "How long a handler's call took."),
    "pending_mark_to_finish_seconds": ("wait", "From the mark to the finish."),
}


class PendingCollector(Collector):
    """Asks the database at each scrape; what is counted is capped at 10,000."""

    def collect(self) -> Iterator[Metric]:
        found = overview()
        with connected(the_database()):
            counted = {} if found.missing else totals()
        counted.pop(ALL, None)
        if not found.missing:  # what never happened is 0, so that rates begin there
            counted = {one.label: Counter[str]() for one in found.flags} | counted
        yield from _gauges(found)
        yield from _counters(counted)
        yield from _histograms(counted)

    def describe(self) -> Iterable[Metric]:
        """Nothing: a registry must not ask the database when it is put together."""
        return []


def exposition() -> bytes:
    """Return all metrics as text.

    Raises:
        peewee.PeeweeException: the default database does not answer.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PendingCollector())
    return generate_latest(registry)


def _gauges(found: Overview) -> Iterator[Metric]:
    readable = [one for one in found.flags if one.numbers]
    for state, text in _STATES.items():
        value = partial(_n, state)
        yield _by_flag(f"pending_{state.value}", text, readable, value)
    capped = GaugeMetricFamily(
        "pending_capped", "1: there are more rows than counted.", labels=["flag"]
    )
    for one in readable:
        more = any(one.numbers.of(s).more for s in _STATES if one.numbers)
        capped.add_metric([one.label], more)
    yield capped
    yield _by_flag(
        "pending_oldest_due_seconds",
        "Since when the longest-due row has been due; 0: none is.",
        readable,
        lambda one: _seconds(one.numbers.oldest if one.numbers else None),
    )
    yield _by_flag(
        "pending_paused",
        "1: no row is claimed.",
        found.flags,
        lambda one: one.paused is not None,
    )
    yield _by_flag(
        "pending_readable",
        "0: the flag's table cannot be read.",
        found.flags,
        lambda one: one.numbers is not None,
    )
    yield _by_flag(
        "pending_workers",
        "Live worker processes that look, and have a handler for the flag.",
        found.flags,
        lambda one: one.workers,
    )
    yield from _of_processes(found)


def _of_processes(found: Overview) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "pending_workers_alive",
        "Live worker processes that look for due rows.",
        value=found.workers,
    )
    yield GaugeMetricFamily(
        "pending_worker_threads",
        "Their threads.",
        value=sum(one.threads for one in found.processes if one.looking),
    )
    swept = GaugeMetricFamily(
        "pending_seconds_since_last_sweep", "Since a worker last heard the clock."
    )
    if found.last_sweep:
        swept.add_metric([], _seconds(found.at - found.last_sweep))
    yield swept


def _by_flag(
    name: str,
    text: str,
    standings: Iterable[Standing],
    value: Callable[[Standing], float],
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["flag"])
    for one in standings:
        family.add_metric([one.label], value(one))
    return family


def _counters(counted: dict[str, Counter[str]]) -> Iterator[Metric]:
    for name, text in _COUNTERS.items():
        family = CounterMetricFamily(f"pending_{name}", text, labels=["flag"])
        for label, counts in sorted(counted.items()):
            family.add_metric([label], counts[name])
        yield family


def _histograms(counted: dict[str, Counter[str]]) -> Iterator[Metric]:
    bounds = [*(str(ms / 1000) for ms in BUCKETS), "+Inf"]
    for name, (of, text) in _HISTOGRAMS.items():
        family = HistogramMetricFamily(name, text, labels=["flag"])
        for label, counts in sorted(counted.items()):
            times = histogram(counts, of)
            buckets = list(zip(bounds, accumulate(times.counts), strict=True))
            family.add_metric([label], buckets, _seconds(times.sum))
        yield family


def _n(state: State, one: Standing) -> float:
    return one.numbers.of(state).n if one.numbers else 0


def _seconds(length: timedelta | None) -> float:
    return length.total_seconds() if length else 0.0
