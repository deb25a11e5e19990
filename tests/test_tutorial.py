"""The tutorial, as its reader has it: its files written, its commands typed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import ROOT, end
from test_make_run import Copy
from waiting import wait_for

TEXT = (ROOT / "docs/tutorial.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)

#: Commands that change nothing: what they tell may take a moment to become so.
ASKS = re.compile(r"pending (list|show|status)|.*print\(")


class Reader:
    """Somebody who follows the page in a fresh copy of the project."""

    def __init__(self, copy: Copy) -> None:
        self.copy = copy
        self.running: subprocess.Popen[bytes] | None = None
        self.typed = 0
        (copy.folder / "shop").mkdir()

    def follow(self, language: str, block: str) -> None:
        if language == "console":
            for step in re.split(r"^(?=\$ |\^C)", block, flags=re.MULTILINE):
                self.type(step)
        elif language == "procfile":
            (self.copy.folder / "Procfile").write_text(block)
        else:
            path = re.match(r"# (shop/\w+\.py)\n", block)
            assert path
            (self.copy.folder / path[1]).write_text(block)

    def type(self, step: str) -> None:
        command, _, said = step.removeprefix("$ ").partition("\n")
        if command == "^C":
            self.stop()
        elif command == "make run":
            self.start()
        elif export := re.fullmatch(r"export (\w+)=(\S+)", command):
            self.copy.environment[export[1]] = export[2]
        elif command and not command.startswith(("git clone", ". .venv")):
            self.typed += 1
            self.run(command, said)

    def run(self, command: str, said: str) -> None:
        done = self.copy.type(command)
        if ASKS.match(command):
            done = wait_for(
                lambda: (
                    (again := self.copy.type(command))
                    and fits(said, again.stdout)
                    and again
                ),
                what=f"{command} says {said!r}, last {done}",
            )
        assert done.returncode == 0, done.stderr
        assert fits(said, done.stdout), (command, said, done.stdout)

    def start(self) -> None:
        before = self.copy.said().count("ready for action") if self.typed else 0
        self.running = self.copy.start()
        wait_for(
            lambda: self.copy.said().count("ready for action") > before,
            what="make run",
        )

    def stop(self) -> None:
        assert self.running
        os.killpg(self.running.pid, signal.SIGINT)
        assert self.running.wait(60) == 0


def fits(shown: str, said: str) -> bool:
    """Say whether a program said what the page shows, where … is anything."""
    pattern = ".*".join(re.escape(part) for part in shown.strip().split("…"))
    return re.fullmatch(pattern, said.strip(), re.DOTALL) is not None


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(Copy(tmp_path))
    yield made
    if made.running:
        end(made.running)  # before those that it would start again
    for pid in made.copy.pids(""):
        os.kill(pid, signal.SIGKILL)


def test_who_does_what_the_tutorial_says_sees_what_it_shows(reader: Reader) -> None:
    for language, block in BLOCKS:
        reader.follow(language, block)
    assert reader.typed >= 10
    reader.stop()
