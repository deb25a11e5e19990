"""LOG_FORMAT=json: one object an event, with the same names everywhere."""

from __future__ import annotations

import ast
import json
import logging
import os
import re

import pytest
from domain import Order, Seat
from house import ROOT, House, end
from postbox import Mailbox, free_port, smtp_server
from python import pending, run_python
from waiting import wait_for
from work import HOUR, drained

from worker import GiveUp, RetryLater
from worker.logs import EVENT_LINE, JsonFormatter, event_of

FLAG = Order.needs_receipt
LATER = ("wait_seconds", "error")
OPERATIONS = (ROOT / "docs/operations.md").read_text()


def as_json(record):
    line = JsonFormatter().format(record)
    assert "\n" not in line
    return json.loads(line)


def raising(error):
    def handler(row):
        raise error

    return handler


@pytest.mark.parametrize(
    ("handler", "event", "level", "facts"),
    [
        (lambda row: None, "finished", "info", {"ms"}),
        (raising(ValueError("x")), "released", "warning", {"wait_seconds", "error"}),
        (raising(GiveUp("gone")), "parked", "error", {"error"}),
        (
            raising(RetryLater(HOUR, "y")),
            "postponed",
            "info",
            {"wait_seconds", "error"},
        ),
    ],
    ids=["finished", "released", "parked", "postponed"],
)
def test_each_end_of_a_claim_is_one_object(  # noqa: PLR0917
    database, caplog, handler, event, level, facts
):
    caplog.set_level(logging.DEBUG, logger="pending")
    row = Order.create(needs_receipt=True)
    drained(FLAG, handler)
    claimed, ended = (as_json(r) for r in caplog.records if r.msg == EVENT_LINE)
    common = {"flag": FLAG.label, "key": str(row.id), "attempt": 1, "logger": "pending"}
    assert claimed.items() >= {**common, "event": "claimed", "level": "debug"}.items()
    assert ended.items() >= {**common, "event": event, "level": level}.items()
    own = {*common, "time", "level", "pid", "event", "message"}
    assert set(ended) - own == facts


def test_a_hostile_error_is_an_error_and_nothing_else(database, caplog):
    text = 'x\n{"event": "finished"} flag=other key=9 ms=1\x1b[31m\u2028\0'
    Seat.create(room="a", number=1, needs_cleaning=True)
    drained(Seat.needs_cleaning, raising(GiveUp(text)))
    (record,) = caplog.records
    line = JsonFormatter().format(record)
    assert line.isprintable()
    assert line.isascii()
    found = json.loads(line)
    assert (found["event"], found["key"]) == ("parked", "a,1")
    assert found["error"] == " ".join(text.replace("\0", "\\0").split())
    assert "ms" not in found


@pytest.mark.parametrize(
    ("template", "arguments", "facts"),
    [
        ("swept flags=%d due=%s", (2, "a,b"), {"flags": 2, "due": "a,b"}),
        (
            "leases not renewed, trying again flag=%s: %s",
            ("a.b", "flag=c"),
            {"flag": "a.b", "error": "flag=c", "event": "leases_not_renewed"},
        ),
        ("%s flag=%s rows=%d", ("retried", "a.b", 3), {"event": "retried", "rows": 3}),
        ("reports go on", (), {"event": "reports_go_on"}),
    ],
)
def test_facts_come_from_the_template_and_not_from_the_text(template, arguments, facts):
    record = logging.LogRecord(
        "pending", logging.INFO, "", 1, template, arguments, None
    )
    assert as_json(record).items() >= facts.items()


def test_other_loggers_are_told_from_ours_and_keep_their_traceback():
    try:
        raise ValueError("boom")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("shop.mails", 40, "", 1, "a=%s", ("b",), info)
    found = as_json(record)
    assert (found["event"], found["message"]) == ("shop", "a=b")
    assert "ValueError: boom" in found["traceback"]
    assert "a" not in found


def test_the_environment_asks_for_json():
    code = (
        "import logging; logging.basicConfig(level='INFO'); import worker;"
        "logging.getLogger('pending').info('swept flags=%d due=%s', 1, 'none')"
    )
    found = json.loads(run_python(code, LOG_FORMAT="json").stderr)
    assert (found["event"], found["flags"]) == ("swept", 1)
    text = run_python(code).stderr
    assert text == "INFO:pending:swept flags=1 due=none\n"


def test_a_worker_s_whole_log_is_json_where_its_main_process_is_silent(tmp_path):
    environment = {
        "DATABASE_URL": f"sqlite:///{tmp_path / 'log.db'}",
        "REDIS_URL": os.environ["REDIS_URL"],
        "REDIS_NAMESPACE": f"log-{os.getpid()}",
        "LOG_FORMAT": "json",
    }
    with (
        smtp_server(Mailbox(), free_port()) as smtp_url,
        House(tmp_path, SMTP_URL=smtp_url, **environment) as house,
    ):
        assert house.run("pending", "migrate").returncode == 0
        worker = house.start_worker("--skip-logging", processes=1)
        house.run("pending", "signup", "dan@example.com")
        wait_for(lambda: '"finished"' in house.log("dramatiq", "worker"))
        assert end(worker) == 0
        lines = house.log("dramatiq", "worker").splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert {"dramatiq", "finished"} <= set(events)


def test_an_unknown_format_is_refused():
    result = pending("status", LOG_FORMAT="xml")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "LOG_FORMAT: 'xml' is no format; write text or json\n"


def logged():
    """Every template that is logged in the code, with its file."""
    for path in [*ROOT.glob("models/*.py"), *ROOT.glob("worker/**/*.py")]:
        for call in calls(path.read_text()):
            words = [a.value for a in call.args if isinstance(a, ast.Constant)]
            if words and call.func.attr != "debug":
                yield words[0], path.name


def calls(code):
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    for node in nodes:
        owner = getattr(node.func, "value", None)
        if getattr(owner, "id", "") in {"logger", "operator"}:
            yield node


def test_every_event_is_in_the_list():
    listed = set(re.findall(r"^\| `(\w+)` \|", OPERATIONS, re.MULTILINE))
    missing = {
        (event, place)
        for template, place in logged()
        if (event := event_of(template)) and event not in listed
    }
    assert missing == set()
