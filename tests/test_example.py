"""The example can be left out, and deleted: nothing else needs it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from house import ROOT
from waiting import wait_for

EXAMPLE = (
    "models/user.py",
    "models/migrations/0001_users.py",
    "worker/welcome.py",
    "worker/mailing.py",
    "worker/cli/signup.py",
    "tests/test_welcome.py",
    "tests/test_mailing.py",
    "tests/test_signup.py",
)

JOBS = """
from models import PendingFlag, PendingModel
from worker import handles

class Crate(PendingModel):
    needs_packing = PendingFlag()

@handles(Crate.needs_packing)
def pack(crate):
    pass

if __name__ == "__main__":
    Crate.create_table()
    Crate.create(needs_packing=True)
"""

PENDING = "from worker.cli import main; main()"


class Copy:
    """A copy of the project, and what runs in it."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.file = folder / "own.db"
        self.environment = {
            **os.environ,
            "DATABASE_URL": f"sqlite:///{self.file}",
            "PENDING_MODULES": "own.jobs",
            "SMTP_URL": "nonsense",  # which nobody looks at
            "MAIL_FROM": "nonsense",
            **environment,
        }
        for name in ("models", "worker"):
            shutil.copytree(ROOT / name, folder / name)
        shutil.copy(ROOT / "pyproject.toml", folder)
        (folder / "own").mkdir()
        (folder / "own/__init__.py").touch()
        (folder / "own/jobs.py").write_text(JOBS)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def ask(self, query: str) -> list[tuple[object, ...]]:
        with sqlite3.connect(self.file) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture(params=["deleted", "left out"])
def copy(request, tmp_path):
    if request.param == "left out":
        return Copy(tmp_path, PENDING_EXAMPLE="0")
    made = Copy(tmp_path)
    for file in EXAMPLE:
        assert (ROOT / file).exists()
        (tmp_path / file).unlink(missing_ok=True)
    return made


def test_without_the_example_everything_else_works(copy):
    migrated = copy.run("-c", PENDING, "migrate")
    assert migrated.stdout == "applied 0002_operations\n", migrated.stderr
    assert copy.run("-m", "own.jobs").returncode == 0
    tables = {name for (name,) in copy.ask("SELECT name FROM sqlite_master")}
    assert {"crate", "pending_pause"} <= tables
    assert "user" not in tables
    status = copy.run("-c", PENDING, "status")
    assert (status.returncode, status.stderr) == (0, "")
    assert "crate.needs_packing" in status.stdout
    assert "user." not in status.stdout
    assert "No such command 'signup'" in copy.run("-c", PENDING, "signup", "x").stderr
    doctor = copy.run("-c", PENDING, "doctor")
    assert "ok      crate.needs_packing: " in doctor.stdout
    assert "user" not in doctor.stdout.replace(str(copy.folder), "")
    where = copy.run("-c", "import worker; print(worker.__file__)").stdout
    assert where.startswith(str(copy.folder))


def test_without_the_example_workers_work(copy):
    assert copy.run("-c", PENDING, "migrate").returncode == 0
    assert copy.run("-m", "own.jobs").returncode == 0
    worker = subprocess.Popen(
        copy.command("-m", "dramatiq", "worker", "own.jobs", "--processes", "1"),
        cwd=copy.folder,
        env=copy.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: copy.ask("SELECT needs_packing FROM crate") == [(0,)])
    finally:
        worker.terminate()
        worker.wait(60)


def test_a_setting_that_is_neither_yes_nor_no_is_one_line(tmp_path):
    copy = Copy(tmp_path, PENDING_EXAMPLE="maybe")
    ended = copy.run("-c", "import worker")
    assert ended.returncode == 1
    assert ended.stderr == "PENDING_EXAMPLE: 'maybe' is neither 1 nor 0\n"


def test_no_check_of_the_project_asks_for_a_file_of_the_example():
    code = [file for file in EXAMPLE if not file.startswith("tests/")]
    modules = {file[:-3].replace("/", ".") for file in code if "migrations" not in file}
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    missing = [
        module
        for override in tool["mypy"]["overrides"]
        if override.get("ignore_missing_imports")
        for module in override["module"]
    ]
    assert modules <= {*missing}
    required = {
        f"{container}.{name.strip()}"
        for contract in tool["importlinter"]["contracts"]
        for container in contract.get("containers", [])
        for layer in contract["layers"]
        for name in layer.split("|")
    }
    assert "models.flags" in required
    assert not modules & required


def test_without_the_example_the_tests_that_are_left_are_found(tmp_path):
    folder = tmp_path / "clone"
    made = shutil.ignore_patterns(".git", ".venv", "var", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, folder, ignore=made)
    for file in EXAMPLE:
        (folder / file).unlink()
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr
    assert "test_claiming.py::" in found.stdout
    assert "test_flow.py::" not in found.stdout
