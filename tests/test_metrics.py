"""The metrics: what they say is what the database says."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta

import pytest
from domain import Order
from house import ROOT
from looking import now_of, write
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from work import drained, nothing, orders

from models import NEVER
from models.connection import connected
from models.heartbeats import Beat, beat
from models.operations import TABLES, the_database
from models.pausing import pause
from models.tallies import add, note_sweep, totals
from worker import GiveUp
from worker.cli.status import to_json
from worker.metrics import PendingCollector, exposition
from worker.overview import overview
from worker.reporting import write_tallies
from worker.tallying import tallies

FLAG = Order.needs_receipt


@pytest.fixture(autouse=True)
def nothing_counted():
    tallies.take()
    yield
    tallies.take()


def samples():
    """The metrics by name and flag."""
    families = text_string_to_metric_families(exposition().decode())
    return {
        (sample.name, sample.labels.get("flag"), sample.labels.get("le")): sample.value
        for family in families
        for sample in family.samples
    }


def refuse(row):
    raise GiveUp("no paper")


@pytest.mark.usefixtures("operations")
def test_the_gauges_are_what_the_database_has(database):
    now = now_of(database, FLAG)
    rows = orders(6)
    write(FLAG, rows[0], due=now - 60_000)
    write(FLAG, rows[1], due=NEVER)
    write(FLAG, rows[2], due=NEVER)
    write(FLAG, rows[3], due=now + 600_000, attempts=2)
    write(FLAG, rows[4], due=now + 600_000)
    write(FLAG, rows[5], until=now + 600_000, lease=7)
    pause(FLAG.label)
    found = samples()
    value = {
        name: found[f"pending_{name}", FLAG.label, None]
        for name in (
            "due",
            "parked",
            "retrying",
            "scheduled",
            "running",
            "paused",
            "capped",
        )
    }
    assert value == {
        "due": 1,
        "parked": 2,
        "retrying": 1,
        "scheduled": 1,
        "running": 1,
        "paused": 1,
        "capped": 0,
    }
    assert 60 <= found["pending_oldest_due_seconds", FLAG.label, None] < 120


@pytest.mark.usefixtures("operations")
def test_the_counters_are_of_all_processes_and_never_less_than_before():
    orders(3)
    drained(FLAG, nothing)
    orders(2)
    drained(FLAG, refuse)
    write_tallies()
    before = samples()
    add(
        {(FLAG.label, "finished"): 40, (FLAG.label, "kicks_coalesced"): 2}
    )  # another process
    after = samples()
    assert before["pending_finished_total", FLAG.label, None] == 3
    assert before["pending_parked_total", FLAG.label, None] == 2
    assert before["pending_failed_total", FLAG.label, None] == 2
    assert after["pending_finished_total", FLAG.label, None] == 43
    kicks = ("pending_kicks_coalesced_total", FLAG.label, None)
    assert after[kicks] - before[kicks] == 2
    ever = totals()[FLAG.label]
    assert after["pending_finished_total", FLAG.label, None] == ever["finished"]


@pytest.mark.usefixtures("operations")
def test_what_never_happened_is_0_so_that_rates_begin_there(database):
    assert samples()["pending_finished_total", FLAG.label, None] == 0


@pytest.mark.usefixtures("operations")
def test_the_histograms_are_cumulative_and_in_seconds():
    counts = Counter({"wait:5": 2, "wait:1000": 3, "wait:inf": 1, "wait_ms": 5_000})
    add({(FLAG.label, name): n for name, n in counts.items()})
    found = samples()
    name = "pending_mark_to_finish_seconds"
    assert found[f"{name}_bucket", FLAG.label, "0.005"] == 2
    assert found[f"{name}_bucket", FLAG.label, "0.5"] == 2
    assert found[f"{name}_bucket", FLAG.label, "1.0"] == 5
    assert found[f"{name}_bucket", FLAG.label, "+Inf"] == 6
    assert found[f"{name}_count", FLAG.label, None] == 6
    assert found[f"{name}_sum", FLAG.label, None] == 5


@pytest.mark.usefixtures("operations")
def test_workers_and_the_clock_are_told():
    assert ("pending_seconds_since_last_sweep", None, None) not in samples()
    second = timedelta(seconds=1)
    beat(Beat("a", "host", 1, "worker", 8, second, second, None, {FLAG.label: 0}))
    note_sweep(age=timedelta(seconds=90))
    found = samples()
    assert found["pending_workers_alive", None, None] == 1
    assert found["pending_worker_threads", None, None] == 8
    assert found["pending_workers", FLAG.label, None] == 1
    assert 89 < found["pending_seconds_since_last_sweep", None, None] < 150


@pytest.mark.usefixtures("operations")
def test_the_json_for_autoscalers_says_the_same():
    orders(3)
    (flag,) = to_json(overview([FLAG]))["flags"]
    assert flag["due"] == samples()["pending_due", FLAG.label, None] == 3


def test_without_the_tables_of_operating_there_are_gauges_still(database):
    with database.bind_ctx(TABLES):
        database.drop_tables(TABLES)
        orders(1)
        assert samples()["pending_due", FLAG.label, None] == 1


@pytest.mark.usefixtures("operations")
def test_a_hostile_label_stays_a_label(monkeypatch):
    add({('a"b\\c\n# HELP evil', "finished"): 1})
    found = samples()
    assert found["pending_finished_total", 'a"b\\c\n# HELP evil', None] == 1


def test_an_application_s_own_registry_can_have_them():
    registry = CollectorRegistry()
    registry.register(PendingCollector())  # asks no database
    with connected(the_database()):
        assert registry.get_sample_value("pending_workers_alive") is not None


@pytest.mark.usefixtures("operations")
def test_the_files_for_grafana_and_prometheus_name_metrics_that_exist():
    add({(FLAG.label, "finished"): 1})
    note_sweep(age=timedelta(0))
    orders(1)
    known = {name for name, *_ in samples()}
    for file in ("docs/grafana.json", "docs/alerts.yml"):
        named = set(re.findall(r"\bpending_\w+", (ROOT / file).read_text()))
        assert named - known == set(), file
        assert len(named) > 5


def test_every_metric_is_in_the_documentation():
    text = (ROOT / "docs/operations.md").read_text()
    names = {name for name, *_ in samples()}
    names = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}
    assert {name for name in names if f"`{name}`" not in text} == set()
