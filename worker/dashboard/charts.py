"""Small charts, drawn here as SVG paths: no script, no library, nothing to fetch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from models.tallies import Minute, histogram

from ..wording import rate, span
from .history import SPAN

_BINS = 60
_BIN = SPAN / _BINS
_WIDTH, _HEIGHT = 4, 40  # of a bar, and of a chart, in the chart's own units
_BAR = 3

#: The size of a chart's canvas, for its viewBox.
CANVAS = (_BINS * _WIDTH, _HEIGHT)


@dataclass(frozen=True, slots=True)
class Chart:
    """A line of numbers over the last hours.

    Attributes:
        path: the `d` of an SVG path.
        peak: the highest number, in words.
        text: what the chart says to those who do not see it.
    """

    title: str
    path: str
    peak: str
    text: str


def charts(of: list[Minute], *, now: datetime) -> list[Chart]:
    """Return the charts of a flag: due rows, finished a minute, waits."""
    bins = _bins(of, now)
    minutes = _BIN / timedelta(minutes=1)
    due = [_largest(one, "due") for one in bins]
    finished = [sum(m.counts["finished"] for m in one) / minutes for one in bins]
    waits = [_wait(one) for one in bins]
    return [
        _chart("Due", due, f"{max(due):,.0f}"),
        _chart("Finished/min", finished, rate(max(finished))),
        _chart("Wait, p95", waits, span(timedelta(seconds=max(waits)))),
    ]


def _chart(title: str, values: Sequence[float], peak: str) -> Chart:
    hours = SPAN / timedelta(hours=1)
    peak = peak if any(values) else "0"
    text = f"{title} over the last {hours:.0f} hours: {peak} at most"
    return Chart(title, bars(values), peak, text)


def bars(values: Sequence[float]) -> str:
    """Return a path of one bar a value, the highest one as high as the chart."""
    top = max(values, default=0)
    parts = []
    for index, value in enumerate(values):
        if value > 0:
            height = max(1.0, value / top * _HEIGHT)
            x, y = index * _WIDTH, _HEIGHT - height
            parts.append(f"M{x} {y:.1f}h{_BAR}V{_HEIGHT}h-{_BAR}z")
    return "".join(parts)


def _bins(of: list[Minute], now: datetime) -> list[list[Minute]]:
    found: list[list[Minute]] = [[] for _ in range(_BINS)]
    end = now.replace(second=0, microsecond=0)  # the minute under way is not whole
    for minute in of:
        back = math.ceil((end - minute.start) / _BIN) - 1
        if 0 <= back < _BINS:
            found[_BINS - 1 - back].append(minute)
    return found


def _largest(of: list[Minute], name: str) -> float:
    return max((one.counts[name] for one in of), default=0)


def _wait(of: list[Minute]) -> float:
    counts: Counter[str] = Counter()
    for one in of:
        counts.update(one.counts)
    slowest = histogram(counts, "wait").quantile(0.95)
    return slowest.total_seconds() if slowest else 0.0
