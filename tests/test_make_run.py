"""`make run` as a newcomer has it, in a copy of the tree, with nothing named."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import BIN, ROOT, end
from waiting import wait_for

PARTS = ("models", "worker", "Procfile", "pyproject.toml")


class Copy:
    """A copy of the tree, in which `make run`'s command is started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        # The commands of this environment would import the original.
        self.environment = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
        }
        self.output = folder / "output.txt"

    def start(self) -> subprocess.Popen[bytes]:
        with self.output.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "worker.running"],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def type(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a line as in a new terminal, where nothing is set."""
        return subprocess.run(
            ["sh", "-c", command],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environment,
            timeout=60,
            check=False,
        )

    def mails(self) -> list[str]:
        return [path.name for path in self.folder.glob("var/outbox/*.eml")]

    def pids(self, words: str) -> set[int]:
        """The processes of this copy whose command line has `words`."""
        lines = subprocess.run(
            ["ps", "-ewwo", "pid=,command="], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        mine = {int(line.split()[0]) for line in lines if words in line}
        return {pid for pid in mine if self._is_mine(pid)}

    def _is_mine(self, pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/cwd").resolve() == self.folder
        except OSError:
            return False


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    made = Copy(tmp_path)
    yield made
    for pid in made.pids(""):
        os.kill(pid, signal.SIGKILL)


def test_what_it_says_is_true_and_nothing_is_left_behind(copy: Copy) -> None:
    process = copy.start()
    wait_for(lambda: copy.said().count("ready for action") >= 2, what=copy.said())
    lines = re.search(r"another terminal:\n(.*?)\nand the mail", copy.said(), re.DOTALL)
    assert lines, copy.said()
    typed = lines[1].replace(".venv/bin/pending", "pending")
    assert copy.type(typed).returncode == 0
    wait_for(lambda: len(copy.mails()) == 1)
    for words in ("dramatiq worker", "periodiq worker", "valkey-server"):
        before = copy.pids(words)
        assert before, words
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda w=words, b=before: copy.pids(w) - b, what=f"{words} is back")
    copy.type(typed.replace("you@", "two@"))
    wait_for(lambda: len(copy.mails()) == 2)
    assert end(process) == 0
    assert not copy.pids("")


def test_ctrl_c_ends_everything(copy: Copy) -> None:
    process = copy.start()
    wait_for(lambda: copy.said().count("ready for action") >= 2, what=copy.said())
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 0
    wait_for(lambda: not copy.pids(""))


def test_a_second_one_says_so_and_ends(copy: Copy) -> None:
    process = copy.start()
    wait_for(lambda: copy.said().count("ready for action") >= 2, what=copy.said())
    assert copy.start().wait(60) == 1
    assert "It runs here already" in copy.said()
    assert end(process) == 0


def test_named_servers_are_told_to_the_new_terminal(copy: Copy) -> None:
    elsewhere = copy.folder / "else where.db"
    copy.environment["DATABASE_URL"] = f"sqlite:///{elsewhere}"
    process = copy.start()
    wait_for(lambda: copy.said().count("ready for action") >= 2, what=copy.said())
    del copy.environment["DATABASE_URL"]
    lines = re.search(r"another terminal:\n(.*?)\nand the mail", copy.said(), re.DOTALL)
    assert lines
    typed = lines[1].replace(".venv/bin/pending", "pending")
    assert copy.type(typed).returncode == 0
    wait_for(lambda: len(copy.mails()) == 1)
    assert end(process) == 0


def test_a_release_that_fails_ends_it_with_one_line(copy: Copy) -> None:
    copy.environment["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/none"
    assert copy.start().wait(60) == 1
    assert "release failed" in copy.said()
    assert "Traceback" not in copy.said()
