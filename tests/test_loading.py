"""Modules that PENDING_MODULES names: imported, or one line that says what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from python import pending, run_python

WRONG = {
    "no_such": ({}, "no_such cannot be imported: there is no no_such in "),
    "shop.no_such": (
        {},
        "shop.no_such cannot be imported: there is no shop.no_such in",
    ),
    "shop.broken": (
        {"broken": "import shop\n\nx = 1 / 0"},
        "ZeroDivisionError: division by zero ({folder}/shop/broken.py:3)",
    ),
    "shop.spelt": (
        {"spelt": "def x(:"},
        "SyntaxError: invalid syntax (spelt.py, line 1)",
    ),
    "shop.lacks": (
        {"lacks": "import no_such"},
        "ModuleNotFoundError: No module named 'no_such' ({folder}/shop/lacks.py:1)",
    ),
    "shop.one": (
        {
            "one": "from shop.two import b\na = 1",
            "two": "from shop.one import a\nb = 1",
        },
        "most likely due to a circular import",
    ),
}


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").touch()
    return tmp_path


@pytest.mark.parametrize("module", WRONG)
@pytest.mark.parametrize("command", ["status", "migrate", "dashboard", "doctor"])
def test_a_module_that_cannot_be_imported_is_one_line(shop, module, command):
    files, message = WRONG[module]
    for name, code in files.items():
        (shop / f"shop/{name}.py").write_text(code)
    ended = pending(command, PYTHONPATH=str(shop), PENDING_MODULES=module)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    (line, *_) = (ended.stderr or ended.stdout).splitlines()
    assert f"PENDING_MODULES: {module} cannot be imported" in line
    assert message.format(folder=shop) in line


def test_the_current_folder_is_looked_in(shop):
    (shop / "shop/jobs.py").write_text("print('imported')")
    code = "import sys; sys.path.remove(''); from worker.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, "status"],
        cwd=shop,
        env={**os.environ, "PENDING_MODULES": "shop.jobs"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.stdout.startswith("imported\n")


def test_modules_without_flags_get_one_warning(shop):
    ended = pending("status", PYTHONPATH=str(shop), PENDING_MODULES="shop,json")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("WARNING modules without flags modules=shop,json: ")


RACK = """
from models import PendingFlag, PendingModel

class Rack(PendingModel):
    needs_dusting = PendingFlag()
"""


def test_without_any_module_the_status_says_what_is_missing():
    ended = pending("status", PENDING_EXAMPLE="0")
    assert "No flags: PENDING_MODULES names the modules of your" in ended.stdout


def test_a_drain_names_the_flags_that_it_has_no_handler_for(shop, server_url):
    (shop / "shop/rack.py").write_text(RACK)
    environment = {
        "PYTHONPATH": str(shop),
        "PENDING_MODULES": "shop.rack",
        "PENDING_EXAMPLE": "0",
        "DATABASE_URL": server_url("sqlite"),
    }
    assert pending("migrate", **environment).returncode == 0
    code = "from shop.rack import Rack; Rack.create_table(); Rack.create({})"
    for marks, told in (("", ""), ("needs_dusting=True", "rack.needs_dusting is due")):
        done = run_python(code.format(marks), **environment)
        assert done.returncode == 0, done.stderr
        ended = pending("drain", **environment)
        assert (ended.returncode, ended.stdout) == (0, "")
        assert ended.stderr.startswith(told)
        assert bool(ended.stderr) == bool(told)


@pytest.mark.parametrize("module", ["rack", None])
def test_a_worker_that_lacks_handlers_says_so(make_house, module):
    house = make_house(PENDING_EXAMPLE="0")
    (house.folder / "rack.py").write_text(RACK)
    house.start_worker(*filter(None, [module]), processes=1)
    lacking = "rack.needs_dusting" if module else "none"
    warning = f"no handler here flags={lacking}: name its module in PENDING_MODULES"
    assert warning in house.log("dramatiq", "worker")
