"""`worker.testing` and its pytest plugin, in a project that rolls back its tests."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import KINDS
from house import ROOT
from python import run_python

LENDING = ROOT / "tests/lending"


@pytest.fixture
def silent_redis() -> Iterator[tuple[str, list[object]]]:
    """The URL of a server that is no Redis, and who has connected to it."""
    callers: list[object] = []

    def accept() -> None:
        while True:
            try:
                caller, address = server.accept()
            except OSError:
                return
            caller.close()
            callers.append(address)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept)
        thread.start()
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0", callers
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def run_pytest(folder: Path, *arguments: str, **environment: str) -> str:
    """Run pytest in `folder` to its end; return what it says."""
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:timeout", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return ran.stdout + ran.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_project_that_rolls_back_its_tests(
    kind: str,
    server_url: Callable[[str], str],
    silent_redis: tuple[str, list[object]],
    tmp_path: Path,
) -> None:
    project = shutil.copytree(LENDING, tmp_path / "lending")
    url, callers = silent_redis
    said = run_pytest(project, LENDING_DATABASE=server_url(kind), REDIS_URL=url)
    assert " passed" in said.splitlines()[-1], said
    assert " failed" not in said, said
    assert callers == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_a_project_whose_tests_pass(
    kind: str, server_url: Callable[[str], str], tmp_path: Path
) -> None:
    _write_the_page_s_project(tmp_path)
    said = run_pytest(tmp_path, "-v", DATABASE_URL=server_url(kind))
    assert said.count(" PASSED ") == 6, said
    assert "FAILED" not in said, said


def test_a_failure_says_what_happened(
    server_url: Callable[[str], str], tmp_path: Path
) -> None:
    _write_the_page_s_project(tmp_path)
    (tmp_path / "test_shop.py").write_text(FAILING)
    said = run_pytest(tmp_path, DATABASE_URL=server_url("sqlite"))
    at = r"\(\S*shop\.py:\d+ in \w+\)"
    for line in (
        r"E +AssertionError: assert drained \{'released': 1\} == \{'finished': 1\}",
        r"E +order\.needs_receipt key=1 attempt=1 released: due in \d+ s:"
        rf" OSError: refused {at}",
        r"E +AssertionError: assert drained \{\} == \{'finished': 1\}",
        r"E +nothing was due",
        r"E +AssertionError: not idle: order\.needs_reminder key=1 is scheduled,"
        r" marked .* ago, due in (14 d|13 d 23 h), attempts: 0",
        r"E +In this run of the test a worker dies after the handler, before",
    ):
        assert re.search(line, said), said


FAILING = """
import shop
from shop import Order, place_order
from worker.testing import assert_idle, crashing, drain


def refuse(email, text, key):
    raise OSError("refused")


def test_drain(monkeypatch):
    monkeypatch.setattr(shop, "send", refuse)
    place_order("ann@example.com")
    assert drain() == {"finished": 1}


def test_drain_nothing():
    assert drain() == {"finished": 1}


def test_idle():
    assert_idle(place_order("ann@example.com"), Order.needs_reminder)


def test_crash(monkeypatch):
    sent = []
    monkeypatch.setattr(shop, "send", lambda *args, **kwargs: sent.append(args))
    for crash in crashing():
        with crash:
            sent.clear()
            place_order("ann@example.com")
            drain()
            assert len(sent) == 1
"""


def _write_the_page_s_project(folder: Path) -> None:
    """Each block of code begins with the name of the file that it is a part of."""
    page = (ROOT / "docs/testing.md").read_text()
    for name, code in re.findall(r"```python\n# (\S+)\n(.*?)```", page, re.DOTALL):
        with (folder / name).open("a") as file:
            file.write(f"{code}\n\n")


def test_marks_ring_where_the_ini_file_says_so(
    server_url: Callable[[str], str],
    silent_redis: tuple[str, list[object]],
    tmp_path: Path,
) -> None:
    _write_the_page_s_project(tmp_path)
    url, callers = silent_redis
    (tmp_path / "pytest.ini").write_text("[pytest]\npending_kicks = true\n")
    (tmp_path / "test_shop.py").write_text(COMMITTING)
    said = run_pytest(tmp_path, DATABASE_URL=server_url("sqlite"), REDIS_URL=url)
    assert "1 passed" in said, said
    assert len(callers) > 0


COMMITTING = """
from models import database
from shop import Order
from worker.testing import crashing, drain


def test_marks_that_commit():
    for crash in crashing():
        with crash:
            Order.create(email="ann@example.com", needs_receipt=True)
            assert drain() == {"finished": 1}
"""


def test_the_plugin_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test_other(): pass")
    ran = run_python(
        "import pytest, sys; pytest.main(['-p', 'pytest_pending', sys.argv[1]]);"
        "heavy = {'worker', 'models', 'peewee', 'dramatiq', 'redis', 'asyncio'};"
        "print(sorted(heavy & {*sys.modules}), 'pytest_pending' in sys.modules)",
        str(tmp_path),
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
    )
    *_, passed, imported = ran.stdout.splitlines()
    assert "1 passed" in passed, ran.stdout + ran.stderr
    assert imported == "[] True"
