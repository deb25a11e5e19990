"""Draws the rates and the latencies of this project and its peers.

One SVG for light and dark pages alike: its own style sheet asks which it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape

import lineup

Figures = dict[str, dict[str, float]]

_WIDTH, _LINE, _TOP = 860, 34, 64
_NAMES, _RATES, _LATENCIES = 150, 330, 230  # how wide the three columns are
_RATES_AT, _LATENCIES_AT = _NAMES + 10, _NAMES + _RATES + 90
_LEAST_MS, _MOST_MS = 0.5, 500

_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.head { font-weight: 600; }
.small { font-size: 11px; fill: #59636e; }
.bar, .span { fill: #afb8c1; }
.ours { fill: #1a7f37; }
.name.ours { font-weight: 600; }
.grid { stroke: #d1d9e0; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .small { fill: #9198a1; }
  .bar, .span { fill: #656c76; }
  .ours { fill: #3fb950; }
  .grid { stroke: #3d444d; }
}
"""


def draw(medians: Figures, about: dict[str, Any]) -> str:
    """Return the picture; who was not measured is left out."""
    kinds = (lineup.OURS, *lineup.PEERS)
    names = [k.name for k in kinds if "p99 ms" in medians.get(k.name, {})]
    height = _TOP + _LINE * len(names) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        f' role="img" aria-label="{escape(_in_words(names, medians))}">',
        f"<style>{_STYLE}</style>",
        *_heads(),
        *_scale(height - 40),
    ]
    most = max((medians[name]["drain /s"] for name in names), default=1)
    for number, name in enumerate(names):
        parts += _line(name, medians[name], most, _TOP + _LINE * number)
    parts += [_text(0, height - 10, _where(about), "small"), "</svg>"]
    return "\n".join(parts) + "\n"


def _heads() -> Iterator[str]:
    yield _text(_RATES_AT, 20, "Jobs a second", "head")
    yield _text(_RATES_AT, 38, "a full queue, 2 processes", "small")
    yield _text(_LATENCIES_AT, 20, "Commit to handler, ms", "head")
    yield _text(_LATENCIES_AT, 38, "rare jobs, an idle worker; median to 99 %", "small")


def _scale(bottom: float) -> Iterator[str]:
    for milliseconds in (1, 10, 100):
        x = _at(milliseconds)
        yield f'<line class="grid" x1="{x}" x2="{x}" y1="{_TOP - 6}" y2="{bottom}"/>'
        yield _text(x + 3, _TOP - 8, f"{milliseconds}", "small")


def _line(
    name: str, figures: dict[str, float], most: float, top: float
) -> Iterator[str]:
    """One system: its name, a bar, and a line from the median to the 99th percent."""
    ours = " ours" if name == lineup.OURS.name else ""
    rate, median, worst = (figures[m] for m in ("drain /s", "p50 ms", "p99 ms"))
    width = max(_RATES * rate / most, 1)
    yield _text(0, top + 16, name, f"name{ours}")
    yield (
        f'<rect class="bar{ours}" x="{_RATES_AT}" y="{top + 2}" width="{width:.1f}"'
        f' height="20" rx="2"/>'
    )
    yield _text(_RATES_AT + width + 6, top + 16, f"{rate:,.0f}")
    left, right = _at(median), _at(worst)
    yield (
        f'<rect class="span{ours}" x="{left - 4}" y="{top + 8}" height="8" rx="4"'
        f' width="{right - left + 8:.1f}"/>'
    )
    yield _text(right + 10, top + 16, f"{median:.1f} – {worst:.1f}")


def _at(milliseconds: float) -> float:
    within = min(max(milliseconds, _LEAST_MS), _MOST_MS)
    share = math.log(within / _LEAST_MS) / math.log(_MOST_MS / _LEAST_MS)
    return round(_LATENCIES_AT + _LATENCIES * share * 0.8, 1)


def _text(x: float, y: float, words: str, kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(words)}</text>'


def _in_words(names: list[str], medians: Figures) -> str:
    return "; ".join(
        f"{name}: {medians[name]['drain /s']:,.0f} jobs/s,"
        f" {medians[name]['p50 ms']:.1f} ms"
        for name in names
    )


def _where(about: dict[str, Any]) -> str:
    return (
        f"PostgreSQL {about['PostgreSQL']['server_version'].split()[0]},"
        f" {about['cores']} cores, {about['rows']:,} rows,"
        f" medians of {about['rounds']} rounds in turns, {about['date']}"
    )
