"""Measures this project beside its peers: the same work for all, in turns.

    make bench [ROWS=20000] [ROUNDS=3] [PUBLISH=yes]

It starts its own servers where the environment names none, prints tables, writes
var/bench.json and draws var/bench.svg; to publish is to write bench/results.json
and docs/bench.svg, which the README shows, instead. It ends with 1 if anybody lost
work. bench/README.md says what is measured, and how each peer is set up.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lineup
import picture
import report
from machine import describe
from measures import draining, enqueuing, growing, idling, latency
from results import Results
from services import ROOT, start_servers
from system import Kind, System, WorkLostError


def main() -> int:
    options = arguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit("ended"))  # and clean up
    started = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        start_servers(folder, stack, own_redis=False)
        about = describe(options.rows, options.rounds)
        results = Results()
        for number in range(options.rounds):
            for kind, what in turns(number):
                if options.only.lower() in kind.name.lower():
                    attempt(kind, what, options.rows, results, folder)
        if not options.only:
            attempt(lineup.OURS, "once", options.rows, results, folder)
    about["minutes"] = round((time.monotonic() - started) / 60, 1)
    publish(results, about, to_readme=options.publish and not results.failures)
    return 1 if results.failures else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--only", default="", help="a part of the names, to try it out")
    return parser.parse_args()


def turns(number: int) -> list[tuple[Kind, str]]:
    """Return who is measured how in a round; each round another one is first."""
    found = [(kind, "all") for kind in (lineup.OURS, *lineup.PEERS)]
    found += [(lineup.RAW_JOBS, "no latency")]
    drained = (*lineup.variants(), lineup.RAW_CLAIMS, lineup.RAW_BATCHES)
    found += [(kind, "drain") for kind in drained]
    first = number * 3 % len(found)
    return found[first:] + found[:first]


def attempt(kind: Kind, what: str, rows: int, results: Results, folder: Path) -> None:
    """Measure one system; whatever goes wrong with it is a result as well."""
    with System(kind, folder) as system:
        try:
            system.produce("install")
            for figures in MEASURED[what](system, rows):
                results.add(kind, figures)
                say(kind, figures)
        except (WorkLostError, RuntimeError) as error:
            results.failures.append(f"{type(error).__name__}: {error}")
            print(f"{error}\n{system.log()}", file=sys.stderr)


def everything(system: System, rows: int) -> Iterator[dict[str, float]]:
    yield enqueuing.measure(system, rows)
    system.start()
    system.wait()
    yield latency.measure(system, rows)
    yield idling.measure(system, rows)
    system.stop()
    yield draining.measure(system, rows)


def no_latency(system: System, rows: int) -> Iterator[dict[str, float]]:
    yield enqueuing.measure(system, rows)
    yield draining.measure(system, rows)


MEASURED = {
    "all": everything,
    "no latency": no_latency,
    "drain": lambda system, rows: [draining.measure(system, rows)],
    "once": lambda system, rows: [growing.measure(system, rows)],
}


def say(kind: Kind, figures: dict[str, float]) -> None:
    """Tell whoever waits how it goes."""
    told = ", ".join(f"{name} {report.number(f)}" for name, f in figures.items())
    print(f"{kind.name}: {told}", file=sys.stderr, flush=True)


def publish(results: Results, about: dict[str, Any], *, to_readme: bool) -> None:
    """Print the tables, write the JSON, draw the picture."""
    print(report.tables(results, about))
    data = ROOT / ("bench/results.json" if to_readme else "var/bench.json")
    drawing = ROOT / ("docs/bench.svg" if to_readme else "var/bench.svg")
    report.write(report.as_json(results, about), data)
    report.write(picture.draw(results.medians(), about), drawing)


if __name__ == "__main__":
    sys.exit(main())
