"""The tables, and the JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lineup
from lineup import OURS
from results import Results
from system import Kind
from targets import TARGETS, Target

_COLUMNS = {
    "enqueue /s": "enqueue, one a transaction /s",
    "bulk enqueue /s": "bulk enqueue /s",
    "drain /s": "drain /s",
    "worker CPU µs a job": "worker CPU µs a job",
    "p50 ms": "commit → handler p50 ms",
    "p95 ms": "p95",
    "p99 ms": "p99",
    "idle CPU s/min": "idle, CPU s a minute",
    "idle Redis commands/s": "idle, Redis commands/s",
}
_CAVEATS = """\
In brackets: how many times as much as this project; below ×1 is less.
One machine runs all: who enqueues, the worker, the database and Redis. Absolute
figures say more about it than about the systems; ratios within one run carry over.
The latency's two ends are timed by one clock. Async handlers wait 50 ms for each
row, so their rate is to be held against nothing else. dramatiq, Celery and Huey may
lose what they enqueued, with Redis or (by default) with a worker: bench/README.md."""


def tables(results: Results, about: dict[str, Any]) -> str:
    """Return all that is printed, in Markdown."""
    parts = [comparison(results), wanted(results), _CAVEATS, where(about)]
    if results.failures:
        parts.insert(0, "\n".join(f"FAILED: {failure}" for failure in results.failures))
    return "\n\n".join(parts)


def comparison(results: Results) -> str:
    rows = [
        [kind.name, *(_cell(results, kind, measure) for measure in _COLUMNS)]
        for kind in _in_order()
        if kind.name in results.rounds
    ]
    return table(["system", *_COLUMNS.values()], rows)


def wanted(results: Results) -> str:
    rows = [_row(target, results) for target in TARGETS]
    return table(["measure", "figure", "ratio", "target", "met"], rows)


def where(about: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {v}" for name, v in about["packages"].items())
    settings = dict(about["PostgreSQL"])
    version = settings.pop("server_version")
    return (
        f"{about['date']}: {about['rows']:,} rows, medians of {about['rounds']} rounds,"
        f" {about['minutes']} minutes; load before {about['load before']}\n"
        f"{about['processor']}, {about['cores']} cores, {about['memory GB']} GB,"
        f" {about['system']}\n"
        f"PostgreSQL {version} ({', '.join(f'{k} {v}' for k, v in settings.items())}),"
        f" {about['Redis']}, Python {about['Python']}\n{packages}"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are aligned as it stands."""
    lines = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(c.ljust(w) for c, w in zip(line, widths, strict=True))} |"
        for line in lines
    )


def as_json(results: Results, about: dict[str, Any]) -> str:
    targets = [
        {
            "measure": target.name,
            "figure": target.figure(results),
            "ratio": target.ratio(results),
            "target": target.bound,
            "met": target.met(results),
        }
        for target in TARGETS
    ]
    everything = {
        "about": about,
        "medians": results.medians(),
        "targets": targets,
        "failures": results.failures,
        "rounds": results.rounds,
    }
    return json.dumps(everything, indent=1, ensure_ascii=False) + "\n"


def write(text: str, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def number(figure: float | None) -> str:
    """Return it with three digits or so."""
    if figure is None:
        return "–"
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def _in_order() -> list[Kind]:
    raw = (lineup.RAW_JOBS, lineup.RAW_CLAIMS, lineup.RAW_BATCHES)
    return [OURS, *lineup.PEERS, *lineup.VARIANTS, *raw]


def _cell(results: Results, kind: Kind, measure: str) -> str:
    figure = results.median(kind, measure)
    ours = results.median(OURS, measure)
    if figure is None or not ours or kind is OURS:
        return number(figure)
    return f"{number(figure)} (×{figure / ours:.2g})"


def _row(target: Target, results: Results) -> list[str]:
    ratio = target.ratio(results)
    met = {True: "yes", False: "NO", None: "not measured"}[target.met(results)]
    return [
        target.name,
        number(target.figure(results)),
        "" if ratio is None else f"{ratio:.2f}",
        target.bound,
        met,
    ]
