"""The bench's own arithmetic; that it runs is shown by a small run of it in CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "bench"))

import lineup
import picture
import report
from house import ROOT
from results import Results
from simulation import House, simulated
from targets import TARGETS, Target

ABOUT = {
    "PostgreSQL": {"server_version": "15.20"},
    "cores": 2,
    "rows": 200,
    "rounds": 1,
    "date": "2026-01-01",
}


def measured(**rates: float) -> Results:
    """Return results with a drain rate for some systems of the line-up."""
    results = Results()
    for name, rate in rates.items():
        results.add(getattr(lineup, name), {"drain /s": rate})
    return results


def test_the_figure_is_the_median_of_the_rounds():
    results = measured(OURS=100)
    results.add(lineup.OURS, {"drain /s": 900})
    results.add(lineup.OURS, {"drain /s": 200})

    assert results.median(lineup.OURS, "drain /s") == 200


@pytest.mark.parametrize(("rate", "met"), [(800, True), (799, False)])
def test_a_rate_is_held_against_the_best_of_the_peers(rate, met):
    target = Target("drain", lineup.OURS, "drain /s", lineup.PEERS, least=4)

    assert target.met(measured(OURS=rate, HUEY=200, CELERY=90)) is met


def test_a_latency_is_held_against_the_shortest():
    target = Target("p50", lineup.OURS, "p50 ms", lineup.PEERS, most=1)
    results = Results()
    for kind, latency in ((lineup.OURS, 2), (lineup.HUEY, 1.5), (lineup.CELERY, 5)):
        results.add(kind, {"p50 ms": latency})

    assert target.met(results) is False


def test_what_was_not_measured_is_neither_met_nor_missed():
    assert [target.met(measured(RAW_JOBS=1)) for target in TARGETS] == [None] * len(
        TARGETS
    )
    assert "not measured" in report.wanted(measured(RAW_JOBS=1))


def test_the_picture_shows_who_was_measured():
    results = Results()
    for kind in (lineup.OURS, lineup.HUEY):
        results.add(kind, {"drain /s": 10, "p50 ms": 1, "p99 ms": 9})

    drawn = picture.draw(results.medians(), ABOUT)

    words = "".join(ElementTree.fromstring(drawn).itertext())
    assert "Huey" in words
    assert "Celery" not in words


def test_a_house_that_is_large_enough_keeps_up():
    course = simulated(House(marks=200, threads=8, cores=1, seconds=10))

    assert course.done == pytest.approx(2000, rel=0.1)
    assert course.left < 20
    assert course.p99 < 0.1


def test_with_too_few_threads_more_and_more_waits():
    course = simulated(House(marks=200, threads=2, cores=1, seconds=10))

    assert course.left == pytest.approx(1000, rel=0.2)
    assert course.p99 > 1


def test_what_an_outage_left_is_done_by_what_there_is_too_much():
    """Half of the threads are busy with what comes; the others do what waits."""
    course = simulated(House(marks=200, threads=8, cores=1, outage=5, seconds=30))

    assert course.most == pytest.approx(1000, rel=0.2)
    assert course.recovery == pytest.approx(2.5, rel=0.4)


def test_what_a_flag_costs_can_be_measured():
    server = {n: v for n, v in os.environ.items() if n != "POSTGRES_URL"}
    command = (sys.executable, ROOT / "bench/sizes.py", "--rows", "300")
    told = subprocess.run(
        command, capture_output=True, text=True, env=server, check=False
    )
    assert told.returncode == 0, told.stderr
    for measure in ("table, bytes a row", "claim and finish, rows a second"):
        assert f"| {measure} |" in told.stdout
