"""The operator's commands: what they say, what they change, and how they end."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from looking import write
from python import pending, run_python
from rich.console import Console

from models import NEVER, User
from models.connection import connected
from models.listing import shown
from models.operations import TABLES
from models.pausing import pauses as in_force
from models.states import State
from models.steering import Selection, park
from worker import handlers as registered
from worker.cli import cli
from worker.cli.migrating import migration
from worker.cli.showing import table
from worker.hands import stopping
from worker.pausing import pauses
from worker.wording import paragraph, plain, span

FLAG = User.needs_welcome_email
LABEL = "user.needs_welcome_email"
HOSTILE = "\x1b[2J\x1b]0;owned\x07 a\nb\rc \u202e\u2028 [red]x[/red] \0"


@pytest.fixture(autouse=True)
def nobody_signed_up(monkeypatch, tmp_path):
    monkeypatch.setattr("worker.pausing._FRESH_SECONDS", 0)
    monkeypatch.setattr("worker.mailing.OUTBOX", tmp_path / "outbox")
    stopping.clear()
    with connected(User._meta.database):
        for table in (User, *TABLES):
            table.delete().execute()
        yield
        for table in (User, *TABLES):
            table.delete().execute()
    stopping.clear()
    pauses.forget()


def users(number, **values):
    return [
        User.create(email=f"user{n}@example.com", needs_welcome_email=True, **values)
        for n in range(number)
    ]


def parked(number, error="no such street"):
    rows = users(number)
    for row in rows:
        write(FLAG, row, due=NEVER, attempts=3, error=error)
    return rows


def run(*arguments, status=0, text=None):
    result = CliRunner().invoke(cli, [*map(str, arguments)], input=text)
    assert result.exit_code == status, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def as_json(*arguments, status=0):
    return json.loads(run(*arguments, "--json", status=status).stdout)


def states():
    return [shown(FLAG, (user.id,)).state.value for user in User.select()]


def test_status_counts_every_state_and_says_who_works():
    users(2)
    head, row, note = run("status", LABEL).stdout.splitlines()
    assert head.split()[:3] == ["flag", "due", "oldest"]
    assert row.split()[:2] == [LABEL, "2"]
    assert note == "0 workers, 0 threads; last sweep never"
    found = as_json("status", LABEL)
    (flag,) = found["flags"]
    assert (flag["flag"], flag["due"], flag["parked"]) == (LABEL, 2, 0)
    assert 0 <= flag["oldest_due_seconds"] < 60
    assert (flag["handler"], flag["workers"], flag["capped"]) == (True, 0, [])
    assert datetime.fromisoformat(found["at"]).tzinfo


def test_status_without_the_tables_of_operating_says_so():
    database = User._meta.database
    database.drop_tables(TABLES)
    try:
        output = run("status", LABEL).stdout
        assert output.splitlines()[-1].endswith("run `pending migrate` for them.")
        assert as_json("status", LABEL)["missing_tables"]
    finally:
        database.create_tables(TABLES)


def test_a_flag_may_be_called_by_its_name_alone():
    assert as_json("status", "needs_welcome_email")["flags"][0]["flag"] == LABEL


@pytest.mark.parametrize(
    "command",
    [
        ["status", "user.needs_wellcome_email"],
        ["list", "nonsense"],
        ["show", "nonsense", "1"],
        ["drain", "nonsense"],
    ],
)
def test_an_unknown_flag_is_explained_with_those_that_are_known(command):
    assert LABEL in run(*command, status=2).stderr


def test_list_shows_what_was_given_up_and_why():
    rows = parked(3)
    lines = run("list", LABEL).stdout.splitlines()
    assert lines[0].split() == ["key", "attempts", "crashes", "age", "due", "error"]
    assert [line.split()[0] for line in lines[1:]] == [str(row.id) for row in rows]
    assert lines[1].endswith("no such street")
    found = as_json("list", LABEL, "--where", f"email={rows[1].email}")
    (row,) = found["rows"]
    assert (row["key"], row["state"], row["attempts"]) == (str(rows[1].id), "parked", 3)
    assert row["values"]["email"] == rows[1].email
    assert as_json("list", LABEL, "--state", "due")["rows"] == []


def test_list_says_that_there_are_none():
    users(1)
    assert "No row is parked; --state names another" in run("list", LABEL).stderr
    assert as_json("list", LABEL)["rows"] == []


def test_list_goes_on_where_the_last_page_ended():
    rows = parked(5)
    first = as_json("list", LABEL, "--limit", 3)
    second = as_json("list", LABEL, "--limit", 3, "--after", first["next"])
    keys = [row["key"] for row in [*first["rows"], *second["rows"]]]
    assert keys == [str(row.id) for row in rows]
    assert second["next"] is None
    assert "More: --after" in run("list", LABEL, "--limit", 3).stderr


def test_show_tells_all_of_a_row():
    (row,) = parked(1, error="ValueError: one\n  called at two")
    lines = run("show", LABEL, row.id).stdout.splitlines()
    assert "state     parked" in lines
    assert f"email = {row.email}" in lines
    assert lines[-2:] == ["ValueError: one", "  called at two"]
    assert as_json("show", LABEL, row.id)["error"].startswith("ValueError")
    assert run("show", LABEL, 0, status=1).stderr == f"{LABEL} has no row 0\n"
    assert "is no value of id" in run("show", LABEL, "x", status=2).stderr


def test_show_tells_a_lease_that_ran_out_from_one_that_holds():
    user, flag = users(1)[0], User.needs_welcome_email
    hour = 3_600_000
    now = flag.dialect.now
    for until, words in ((now + hour, "leased    until 2"), (now - hour, "ran out 2")):
        User.update({flag: True, flag.until: until, flag.lease: 1}).execute()
        assert words in run("show", LABEL, user.id).stdout


def test_nothing_that_a_row_holds_drives_the_terminal():
    (row,) = parked(1, error=HOSTILE.replace("\0", ""))
    User.update(email=HOSTILE.replace("\0", "") + "@example.com").execute()
    for command in (["list", LABEL], ["show", LABEL, row.id]):
        output = run(*command).output
        assert all(c.isprintable() or c == "\n" for c in output)
        assert "\\x1b" in output
    assert len(run("list", LABEL).stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("verb", "was", "becomes"),
    [
        ("retry", "parked", "due"),
        ("mark", "parked", "due"),
        ("unmark", "parked", "idle"),
        ("park", "due", "parked"),
    ],
)
def test_verbs_count_without_changing_and_change_what_they_count(verb, was, becomes):
    rows = parked(3) if was == "parked" else users(3)
    past = {"retry": "retried", "park": "parked"}.get(verb, f"{verb}ed")
    dry = run(verb, LABEL, rows[0].id, "--dry-run").stdout
    assert dry == f"1 would be {past}\n"
    assert states() == [was] * 3
    assert run(verb, LABEL, rows[0].id).stdout == f"1 {past}\n"
    assert states() == [becomes, was, was]
    everything = ["--where", f"email={rows[1].email}"]
    assert as_json(verb, LABEL, *everything, "--dry-run") == {
        "flag": LABEL,
        verb: 1,
        "dry_run": True,
    }
    assert as_json(verb, LABEL, *everything)[verb] == 1
    assert states() == [becomes, becomes, was]
    left = 3 if verb == "mark" else 1
    assert run(verb, LABEL, "--all", "--yes").stdout == f"{left} {past}\n"
    assert states() == [becomes] * 3


def test_keys_that_are_in_no_state_for_a_verb_are_told_and_end_with_1():
    (row,) = users(1)
    result = run("retry", LABEL, row.id, 99, status=1)
    assert result.stdout == "0 retried\n"
    assert "2 left alone" in result.stderr
    assert run("retry", LABEL, "--all").stdout == "0 retried\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["1", "--all"],
        ["1", "--where", "email=x"],
        ["x"],
        ["--where", "colour=red"],
        ["--where", "email"],
        ["--all", "--state", "idle"],
        ["--all", "--state", "due"],
    ],
)
def test_what_cannot_be_meant_ends_with_2_and_changes_nothing(arguments):
    parked(1)
    assert "Error: " in run("retry", LABEL, *arguments, status=2).stderr
    assert states() == ["parked"]


def test_a_reason_is_the_error_of_the_rows_that_are_parked():
    (row,) = users(1)
    run("park", LABEL, row.id, "--reason", "wrong address", "--by", "dan")
    assert shown(FLAG, (row.id,)).error == "wrong address"


def test_an_operator_s_change_is_logged_with_who_what_and_how_many():
    (row,) = parked(1)
    result = pending("retry", LABEL, str(row.id), USER="dan")
    expected = f"retried flag={LABEL} rows=1 by=dan which=keys({row.id})"
    assert result.stderr == f"INFO {expected}\n"
    result = pending("unmark", LABEL, str(row.id), "--by", "eve", LOG_FORMAT="json")
    found = json.loads(result.stderr)
    assert (found["event"], found["by"], found["rows"]) == ("unmarked", "eve", 1)


def test_no_reason_name_or_filter_breaks_a_line_of_the_log(caplog):
    forged = "x\nINFO parked flag=all\x1b[2J"
    for command in (
        ["pause", LABEL, "--reason", forged, "--by", forged],
        ["resume", LABEL, "--by", forged],
        ["unmark", LABEL, "--where", f"email={forged}", "--by", forged],
    ):
        run(*command)
        (line,) = caplog.messages
        assert r"x\nINFO parked flag=all\x1b[2J" in line
        assert line.isprintable()
        caplog.clear()


def on_a_terminal(*arguments, answer=""):
    """Run a command on a pseudo-terminal; return its status and what is seen."""
    ours, theirs = pty.openpty()
    code = "from worker.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        **dict.fromkeys(("stdin", "stdout", "stderr"), theirs),
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    )
    os.close(theirs)
    os.write(ours, answer.encode())
    seen = b""
    try:
        while select.select([ours], [], [], 60)[0]:
            seen += os.read(ours, 65_536)
    except OSError:  # Linux's way to say that there is no more
        pass
    os.close(ours)
    return process.wait(60), seen.decode()


@pytest.mark.parametrize(
    ("verb", "offered"),
    [
        ("retry", {"parked", "retrying"}),
        ("mark", {"due", "scheduled", "running", "retrying", "parked"}),
        ("unmark", {"due", "scheduled", "running", "retrying", "parked"}),
        ("park", {"due", "scheduled", "retrying"}),
    ],
)
def test_a_command_offers_the_states_that_it_is_for(verb, offered):
    for state in State:
        refused = state.value not in offered
        run(verb, LABEL, "--all", "--state", state.value, status=2 if refused else 0)


@pytest.mark.parametrize(("answer", "becomes"), [("n\n", "parked"), ("y\n", "due")])
def test_a_command_for_all_asks_on_a_terminal(answer, becomes):
    parked(2)
    status, seen = on_a_terminal("retry", LABEL, "--all", answer=answer)
    assert f"retry 2 rows of {LABEL}?" in seen
    assert (status, states()) == (int(becomes == "parked"), [becomes] * 2)


def test_a_terminal_has_colours_and_no_row_drives_it(monkeypatch):
    parked(1, error=HOSTILE.replace("\0", ""))
    status, seen = on_a_terminal("list", LABEL)
    assert status == 0
    assert "\x1b[2J" not in seen
    assert "\x1b]0" not in seen
    assert "[red]" in seen
    assert "\x1b[1m" in seen
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in on_a_terminal("status", LABEL)[1]


def test_pause_and_resume_are_kept_and_shown():
    result = run("pause", LABEL, "--until", "2h", "--reason", "a flood", "--by", "dan")
    assert result.stdout.startswith(f"{LABEL} paused until ")
    (pause,) = in_force()
    assert (pause.flag, pause.reason, pause.by) == (LABEL, "a flood", "dan")
    left = pause.until - datetime.now(UTC)
    assert timedelta(hours=1.9) < left <= timedelta(hours=2)
    assert "is paused by dan until " in run("status", LABEL).stdout
    assert run("resume", LABEL).stdout == f"{LABEL} resumed\n"
    assert run("resume", LABEL, status=1).stdout == "nothing resumed\n"


def test_a_pause_tells_whose_it_takes_the_place_of():
    first = run("pause", LABEL, "--reason", "a flood", "--by", "dan")
    assert first.stderr == ""
    second = run("pause", LABEL, "--reason", "a fire", "--by", "eve")
    assert second.stderr == "in place of the pause by dan: a flood\n"
    assert [one.reason for one in in_force()] == ["a fire"]


def test_everything_is_paused_and_resumed_at_once():
    run("pause", LABEL)
    run("pause", "--all")
    assert as_json("status", LABEL)["paused"] is True
    result = run("resume", LABEL, status=1)
    assert "still paused by" in result.stderr
    run("pause", LABEL)
    assert as_json("resume", "--all") == {"resumed": ["*", LABEL], "paused": False}
    assert in_force() == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [LABEL, "--all"],
        [LABEL, "--until", "soon"],
        [LABEL, "--until", "2001-01-01"],
    ],
)
def test_a_pause_that_cannot_be_meant_is_none(arguments):
    run("pause", *arguments, status=2)
    assert in_force() == []


@pytest.mark.parametrize("until", ["90s", "30min", "5 m", "3d", "23:59", "2100-01-31"])
def test_times_are_typed_in_many_ways(until):
    run("pause", LABEL, "--until", until)
    assert in_force()[0].until > datetime.now(UTC)


def test_drain_does_what_is_due_and_tells_how_it_ended():
    users(3)
    assert run("drain", LABEL).stdout == f"{LABEL}: 3 finished\n"
    assert states() == ["idle"] * 3
    assert run("drain").stdout == f"{LABEL}: nothing was due\n"
    User.update(email="no address", needs_welcome_email=True).where(
        User.email == "user1@example.com"
    ).execute()
    found = as_json("drain", LABEL, status=1)
    assert found["drained"][LABEL]["parked"] == 1


def test_drain_leaves_alone_what_is_paused():
    users(1)
    run("pause", LABEL)
    assert run("drain", status=1).stderr.endswith(
        f"{LABEL}: paused; `pending resume` ends that\n"
    )
    assert states() == ["due"]


def test_drain_needs_a_handler(monkeypatch):
    monkeypatch.setattr(registered, "_handlers", {})
    assert "has no handler here" in run("drain", LABEL, status=1).stderr


def test_drain_ends_after_the_row_at_work_when_it_is_told_to(tmp_path):
    users(5)
    (tmp_path / "slow.py").write_text(
        "import time\nfrom worker import welcome\n"
        "welcome.send = lambda message: (print('at it', flush=True), time.sleep(1))\n"
    )
    code = "from worker.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "drain"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PENDING_MODULES": "slow", "PYTHONPATH": str(tmp_path)},
    )
    assert process.stdout.readline() == "at it\n"
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert output == f"{LABEL}: 1 finished\n"
    assert process.returncode == 1
    assert sorted(states()) == ["due"] * 4 + ["idle"]


def test_sweep_rings_for_what_is_due_and_for_nothing_else(monkeypatch):
    """Other tests' models have no tables here."""
    monkeypatch.setattr("worker.cli.draining.known_flags", lambda: [FLAG])
    assert run("sweep").stdout == "rang for nothing: nothing is due\n"
    users(1)
    assert as_json("sweep") == {"rung": [LABEL], "refused": [], "unread": []}


def test_sweep_without_redis_says_so(monkeypatch):
    users(1)
    monkeypatch.setattr("worker.cli.draining.ring", lambda flag: False)
    assert "no bell for" in run("sweep", status=1).stderr


def test_the_modules_that_are_named_are_imported(tmp_path):
    (tmp_path / "shop.py").write_text(
        "from models import PendingModel, PendingFlag\n"
        "class Parcel(PendingModel):\n    needs_stamp = PendingFlag()\n"
    )
    path = {"PYTHONPATH": str(tmp_path)}
    result = pending("status", "--json", PENDING_MODULES="shop", **path)
    assert result.returncode == 1  # its table is missing
    found = {one["flag"]: one for one in json.loads(result.stdout)["flags"]}
    assert "no such table" in found["parcel.needs_stamp"]["problem"]
    assert not found["parcel.needs_stamp"]["handler"]
    result = pending("status", PENDING_MODULES="nowhere")
    assert result.returncode == 1
    assert "PENDING_MODULES: nowhere cannot be imported" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_flags_and_filters(shell):
    assert "_PENDING_COMPLETE" in run("completion", shell).stdout


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("pending st", "status"),
        ("pending retry user", LABEL),
        (f"pending retry {LABEL} --where em", "email="),
    ],
)
def test_what_is_completed(words, completed):
    result = run_python(
        "import sys; sys.argv = ['pending']; from worker.cli import main; main()",
        _PENDING_COMPLETE="bash_complete",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split()) - 1),
    )
    assert f"plain,{completed}" in result.stdout


def test_every_command_has_help_with_an_example():
    for name in cli.commands:
        assert f"pending {name}" in run(name, "--help").stdout


def test_every_command_that_prints_can_print_json():
    groups = {"migration": [("migration", name) for name in migration.commands]}
    for name in set(cli.commands) - {"completion", "dashboard"}:
        for words in groups.get(name, [(name,)]):
            assert "--json" in run(*words, "--help").stdout
    assert as_json("migrate") == {"applied": []}
    found = as_json("signup", "dan@example.com", "nonsense", status=1)
    assert (found["signed_up"], found["refused"][0]["line"]) == (1, 2)


def test_status_can_be_watched():
    code = "from worker.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "status", "--watch", "--every", "0.2"],
        stdout=subprocess.PIPE,
        text=True,
    )
    heads = 0
    deadline = time.monotonic() + 60
    while heads < 3 and time.monotonic() < deadline:
        heads += process.stdout.readline().startswith("flag ")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert heads == 3


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (None, "–"),
        (timedelta(0), "0 ms"),
        (timedelta(milliseconds=350), "350 ms"),
        (timedelta(seconds=3.25), "3.2 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(seconds=61), "1 min 1 s"),
        (timedelta(hours=1, minutes=5), "1 h 5 min"),
        (timedelta(days=3, hours=2, minutes=9), "3 d 2 h"),
        (-timedelta(hours=2), "-2 h"),
    ],
)
def test_lengths_of_time_are_in_two_units(length, text):
    assert span(length) == text


def test_text_is_printable_whatever_it_holds():
    assert plain("a\x1b[31m\n\u202e") == "a\\x1b[31m\\n\\u202e"
    assert plain("x" * 100, most=10) == "xxxxxxxxx…"
    assert paragraph("a\n\x07b") == "a\n\\x07b"


def test_two_operators_at_once_change_each_row_once():
    rows = parked(20)
    keys = [str(row.id) for row in rows]
    code = "from worker.cli import main; main()"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, "retry", LABEL, *keys, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    counts = [json.loads(one.communicate(timeout=60)[0])["retry"] for one in both]
    assert sum(counts) == 20
    assert park(Selection(FLAG), by="dan") == 20


@pytest.mark.parametrize(("width", "lines"), [(200, 2), (80, 2), (30, 3)])
def test_a_table_is_legible_on_a_narrow_terminal(capsys, monkeypatch, width, lines):
    terminal = Console(width=width, force_terminal=True, no_color=True)
    monkeypatch.setattr("worker.cli.showing.console", lambda: terminal)
    head = ["flag", "due", "retrying", "finished/min", "workers"]
    table(head, [["order.needs_receipt", 12, 3, 0.5, 2]])
    text = capsys.readouterr().out
    for name in (*head[1:], "order.needs_receipt"):
        assert name in text
    assert len(text.splitlines()) == lines
