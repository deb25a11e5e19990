"""What type checkers say of a user's program: nothing, and something of each mistake.

mypy in strict mode, and pyright (basedpyright, which needs no download, with pyright's
own rules).
"""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from house import ROOT

from worker import handles
from worker.declaring import Options

PROGRAMS = ROOT / "tests" / "typing"
MISTAKEN = PROGRAMS / "mistakes.py"

Found = set[tuple[str, int]]


def run(*command: str) -> str:
    """Run a tool as a user does: beside the program, with nothing configured."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=PROGRAMS,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    ).stdout


def mypy(folder: Path) -> Found:
    """The file and line of each error that mypy reports."""
    strict = ("mypy", "--strict", "--config-file=", f"--cache-dir={folder}")
    said = run(*strict, "shop.py", MISTAKEN.name)
    # Peewee's async databases are untyped: docs/types.md
    untyped = ("--allow-untyped-calls", "--follow-untyped-imports")
    said += run(*strict, *untyped, "letters.py")
    assert "checked 2 source files" in said, said
    assert "in 1 source file" in said, said
    found = re.findall(r"^(\w+\.py):(\d+): error", said, re.MULTILINE)
    return {(name, int(line)) for name, line in found}


def pyright(folder: Path) -> Found:
    """The file and line of each error that pyright reports."""
    config = folder / "pyrightconfig.json"
    settings = {"typeCheckingMode": "standard", "include": [str(PROGRAMS)]}
    config.write_text(json.dumps({**settings, "extraPaths": [str(PROGRAMS)]}))
    options = ("--project", str(config), "--pythonpath", sys.executable)
    said = json.loads(run("basedpyright", *options, "--outputjson"))
    assert said["summary"]["filesAnalyzed"] == 3
    return {
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1)
        for one in said["generalDiagnostics"]
        if one["severity"] == "error"
    }


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_each_mistake_is_reported_and_nothing_else(checker, tmp_path):
    lines = MISTAKEN.read_text().splitlines()
    mistakes = {
        (MISTAKEN.name, number)
        for number, line in enumerate(lines, 1)
        if line.endswith("# error")
    }
    assert len(mistakes) > 20
    assert checker(tmp_path) == mistakes


def test_the_checkers_know_the_options_that_there_are():
    parameters = inspect.signature(handles).parameters.values()
    named = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}
    assert {*Options.__annotations__, "batch"} == named


@pytest.mark.parametrize("package", ["models", "worker"])
def test_each_package_says_that_it_is_typed(package):
    assert (ROOT / package / "py.typed").is_file()
