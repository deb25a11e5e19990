"""What `make run` makes of the Procfile, and what it tells the user."""

from __future__ import annotations

import configparser
import shlex
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from supervisor.options import UnhosedConfigParser

from worker import running
from worker.running import procfile, supervisord_conf, welcome

ROOT = Path(__file__).resolve().parent.parent

#: What breaks naive quoting, in sh, in ini files and in supervisor's expansions.
COMMANDS = {
    "plain": "printf hello",
    "percent": "printf '%s %s' 100% '%(here)s'",
    "single quotes": 'printf "it\'s"',
    "double quotes": "printf '%s' '\"quoted\"'",
    "semicolon": "printf '%s' 'a ; b' ; # a comment",
    "variable": "printf '%s' \"$HOME/x\"",
    "backslash": r"printf '%s' 'a\b'",
}


def test_the_procfile_s_commands_come_by_name_in_its_order():
    text = """
# a comment: not a process
release: pending migrate

worker:   dramatiq worker --processes 2
web-2: gunicorn 'shop:app' --bind=0.0.0.0:$PORT  # words: of all kinds
"""
    assert list(procfile(text).items()) == [
        ("release", "pending migrate"),
        ("worker", "dramatiq worker --processes 2"),
        ("web-2", "gunicorn 'shop:app' --bind=0.0.0.0:$PORT  # words: of all kinds"),
    ]


def test_lines_that_name_no_command_are_no_process():
    assert procfile("worker:\nclock:   \n: nothing\n") == {}


def test_our_own_procfile_names_the_four_that_there_are():
    commands = procfile((ROOT / "Procfile").read_text())
    assert commands == {
        "release": "pending migrate",
        "worker": "dramatiq worker",
        "clock": "periodiq worker",
        "web": "pending dashboard",
    }


def command_of(text, name):
    """Return the command as supervisor reads it."""
    parser = UnhosedConfigParser()
    parser.read_string(text)
    return parser.saneget(f"program:{name}", "command", expansions={"here": "/x"})


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_command_reaches_the_shell_as_it_was_written(kind):
    command = COMMANDS[kind]
    written = command_of(supervisord_conf({"odd": command}), "odd")
    expected = subprocess.check_output(["sh", "-c", command])
    assert subprocess.check_output(shlex.split(written)) == expected


def test_every_process_is_kept_alive_and_only_its_main_process_is_signalled():
    """dramatiq's children take a second SIGTERM as "now"."""
    parser = configparser.RawConfigParser()
    parser.read_string(supervisord_conf({"worker": "dramatiq worker", "web": "x"}))
    for name in ("worker", "web"):
        program = parser[f"program:{name}"]
        assert program["autorestart"] == "true"
        assert program["startsecs"] == "0"
        assert program.get("stopasgroup", "false") == "false"


def test_the_user_is_told_what_runs_and_what_to_type(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://dan:secret@db.example/shop")
    monkeypatch.setenv("REDIS_URL", "redis://:secret@redis.example:6379/0")
    smtp = replace(running.settings, smtp_url="smtp://dan:secret@mail.example:587")
    monkeypatch.setattr(running, "settings", smtp)
    text = welcome({"worker": "dramatiq worker", "clock": "periodiq worker"}, "")
    for words in ("dramatiq worker", "periodiq worker", "db.example", "redis.example"):
        assert words in text
    assert "mail.example" in text
    assert "pending signup you@example.com" in text
    assert f"cd {shlex.quote(str(ROOT))}\n" in text
    assert "secret" not in text


def test_without_a_mail_server_the_user_is_told_where_mails_go(monkeypatch):
    monkeypatch.setattr(running, "settings", replace(running.settings, smtp_url=None))
    assert str(running.OUTBOX) in welcome({"worker": "x"}, "")


def test_without_the_example_nobody_is_told_to_sign_up(monkeypatch):
    monkeypatch.setenv("PENDING_EXAMPLE", "0")
    text = welcome({"worker": "x"}, "")
    assert "pending status\n" in text
    assert "signup" not in text
    assert "mails" not in text


def test_bells_in_rabbitmq_are_said_to_be_there(monkeypatch):
    there = replace(running.settings, broker_url="amqp://dan:secret@mq.example:5672/")
    monkeypatch.setattr(running, "settings", there)
    text = welcome({"worker": "x"}, "")
    assert "bells in amqp://dan:***@mq.example:5672/\n" in text


def test_the_user_is_told_where_the_dashboard_is(monkeypatch):
    monkeypatch.setenv("PORT", "8010")
    assert "dashboard http://localhost:8010\n" in welcome({"web": "x"}, "")
    assert "http://" not in welcome({"worker": "x"}, "")


def test_a_port_that_is_taken_is_passed_over(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(
            running, "settings", replace(running.settings, dashboard_port=port)
        )
        assert port < running._free_port() < port + 20
