"""What the page about the article says of ours, on every database."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from importlib import import_module
from types import SimpleNamespace

import pytest
from bells import hanging
from house import ROOT

from worker import sweep
from worker.breaker import Breaker
from worker.brokers import broker
from worker.choosing import SWEEPS
from worker.kicking import kick
from worker.redis_broker import _HANG
from worker.settings import settings_from

FOLDER = ROOT / "docs" / "examples" / "article"


@pytest.fixture
def article(database, handlers, monkeypatch):
    """The page's modules, imported anew, with an empty table."""
    monkeypatch.syspath_prepend(FOLDER)
    users = import_module("users")
    with database.bind_ctx([users.User]):  # before the handler asks for the flag's name
        database.create_tables([users.User])
        users.User.delete().execute()
        others = ("emails", "signing_up")
        yield SimpleNamespace(
            users=users, **{name: import_module(name) for name in others}
        )
    for name in ("users", *others):
        del sys.modules[name]


@pytest.fixture
def queue(redis_client, monkeypatch):
    monkeypatch.setattr(broker, "_hang", redis_client.register_script(_HANG))
    monkeypatch.setattr(broker, "breaker", Breaker())
    return redis_client


def test_a_user_and_the_need_are_one_and_a_kick_follows(article, queue):
    dan = article.signing_up.sign_up("dan@example.com")
    flag = article.users.User.needs_welcome_email
    assert hanging(queue) == [("kick", flag.label)]
    kick(flag.label)
    assert article.emails.SENT == ["dan@example.com"]
    assert not article.users.User.get_by_id(dan.id).needs_welcome_email


def test_the_two_lines_of_the_article_mark(article, queue):
    dan = article.users.User.create(email="dan@example.com")
    article.signing_up.welcome_again(dan)
    assert article.users.User.get_by_id(dan.id).needs_welcome_email
    kick(article.users.User.needs_welcome_email.label)
    assert article.emails.SENT == ["dan@example.com"]


def test_a_kick_that_is_lost_is_made_good_by_the_sweep(article, queue):
    article.signing_up.sign_up("dan@example.com")
    for key in queue.scan_iter(f"{broker.namespace}:*"):
        queue.delete(key)
    sweep()
    flag = article.users.User.needs_welcome_email
    assert ("kick", flag.label) in hanging(queue)


def test_after_a_day_without_workers_one_sweep_waits(queue):
    for _ in range(24 * 4):
        sweep.send()
    assert [name for name, *_ in hanging(queue, SWEEPS)] == ["sweep"]


def test_a_tick_of_15_minutes_expires_after_10():
    settings = settings_from({"SWEEP_CRON": "*/15 * * * *"})
    assert settings.sweep_expires == timedelta(minutes=10)


def test_each_name_of_the_page_is_a_module_s():
    page = (FOLDER / "README.md").read_text()
    linked = set(re.findall(r"\]\((\w+\.py)\)", page))
    assert linked == {path.name for path in FOLDER.glob("*.py")}
    code = "".join(path.read_text() for path in FOLDER.glob("*.py"))
    ours = re.findall(
        r"^\|.*\| `(@handles.*|def .*|send_\w+\(.*|user\..*)` \|$", page, re.M
    )
    assert len(ours) == 5
    assert [line for line in ours if line not in code] == []
