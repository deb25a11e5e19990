"""Installed beside an application, from a wheel: all that is needed is in it."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import ROOT
from waiting import wait_for

JOBS = """
import logging

from models import PendingFlag, PendingModel
from worker import handles

class Crate(PendingModel):
    needs_packing = PendingFlag()

@handles(Crate.needs_packing)
def pack(crate):
    logging.info("packed %s", crate.id)

if __name__ == "__main__":
    Crate.create_table(safe=True)
    Crate.create(needs_packing=True)
"""


class Application:
    """A folder with a package `shop`, and an environment with the wheel installed."""

    def __init__(self, folder: Path, environment: Path) -> None:
        self.folder, self.bin = folder, environment / "bin"
        self.environment = {
            **os.environ,
            "DATABASE_URL": f"sqlite:///{folder / 'shop.db'}",
            "PENDING_MODULES": "shop.jobs",
        }
        self.write("shop/__init__.py", "")
        self.write("shop/jobs.py", JOBS)

    def write(self, path: str, text: str) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text)

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str) -> tuple[int, str]:
        process = self.start(*command)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; what it depends on is that of the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns(".*", "var", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(build, cwd=source, check=True, capture_output=True, timeout=120)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    (wheel,) = folder.glob("*.whl")
    pip = [folder / "venv/bin/python", "-m", "pip", "install", "-q"]
    offline = ["--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, *offline, wheel], check=True, timeout=120)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (packages / "tests.pth").write_text("\n".join(site.getsitepackages()))
    return folder / "venv"


@pytest.fixture
def application(tmp_path, environment) -> Application:
    return Application(tmp_path, environment)


@pytest.fixture
def dashboard(application) -> Iterator[str]:
    process = application.start("pending", "dashboard", "--port", "0")
    try:
        yield process.stdout.readline().rpartition(" ")[2].strip()
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_the_wheel_has_the_migrations_and_no_example(application):
    assert application.run("pending", "migrate") == (0, "applied 0002_operations\n")
    assert application.run("python", "-m", "shop.jobs") == (0, "")
    status, output = application.run("pending", "status")
    assert (status, output.count("needs_packing")) == (0, 1)
    where = "import worker; print(worker.__file__)"
    assert str(application.bin.parent) in application.run("python", "-c", where)[1]


def test_the_wheel_has_the_dashboards_pages_and_style(application, dashboard):
    application.run("pending", "migrate")
    application.run("python", "-m", "shop.jobs")
    with urllib.request.urlopen(dashboard, timeout=60) as answer:
        page = answer.read().decode()
    assert "crate.needs_packing" in page
    for file in (ROOT / "worker/dashboard/static").iterdir():
        with urllib.request.urlopen(f"{dashboard}/static/{file.name}") as answer:
            assert answer.status == 200


def test_workers_of_the_installed_package_work(application):
    application.run("pending", "migrate")
    assert application.run("python", "-m", "shop.jobs") == (0, "")
    worker = application.start(
        "python", "-m", "dramatiq", "worker", "--processes", "1"
    )  # PENDING_MODULES names what to import
    try:
        # Of what is logged, not printed: a print is two writes, which others can part.
        wait_for(lambda: worker.stdout.readline().endswith("packed 1\n"))
    finally:
        worker.terminate()
        worker.communicate(timeout=60)


def test_a_top_level_models_of_their_own_is_one_line(application):
    application.write("models/__init__.py", "class Product:\n    pass\n")
    command = ("python", "-m", "dramatiq", "worker", "shop.jobs", "--processes", "1")
    status, output = application.run(*command)
    assert status != 0
    (line,) = [one for one in output.splitlines() if "pending-flags" in one]
    assert f"the top-level package `models` is {application.folder}/models" in line
    assert "rename yours, or move it into a package of your own" in line


def test_a_hidden_top_level_package_is_named_where_it_is_missed(application):
    application.write("models.py", "class Product:\n    pass\n")
    application.write("shop/jobs.py", "from models import Product\n")
    status, output = application.run("pending", "status")
    assert status == 1
    (line,) = output.splitlines()
    assert "PENDING_MODULES: shop.jobs cannot be imported" in line
    assert "`models` is that of pending-flags: rename yours" in line
