"""Whether commands that are typed somewhere in the documentation could be typed.

A command of this project is parsed as it would parse itself, but not run. Of the
others the name must be one that a reader is known to have.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import click
import dramatiq.cli
import periodiq
from house import ROOT

from worker.cli import cli

#: Commands of others, which a reader has or is told to install.
FOREIGN = {
    *("cd", "mkdir", "export", ".", "eval", "pkill", "source", "cp", "sudo", "curl"),
    *("git", "pip", "systemctl", "systemd-analyze", "journalctl", "psql", "createdb"),
    *("docker", "kubectl", "heroku", "redis-server", "pre-commit", "uv", "gh", "twine"),
    *("hadolint", "ls", "cat", "kill", "rm"),
}

_PROMPT = re.compile(r"^\$ (.*)$", re.MULTILINE)


def commands_in(text: str) -> Iterator[list[str]]:
    """Yield the words of each command that follows a `$ ` in `text`."""
    for line in _PROMPT.findall(text.replace("\\\n", " ")):
        yield from _commands(line)


def check(words: Sequence[str]) -> None:
    """Raise what is wrong with a command; of options of ours, what it would say."""
    name = words[0].rpartition("/")[2]
    if name in _OURS:
        _OURS[name](list(words[1:]))
        return
    assert name in FOREIGN, f"no command {name!r} is known here"


def _commands(line: str) -> Iterator[list[str]]:
    for inner in re.findall(r"\$\((.*?)\)", line):
        yield from _commands(inner)
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split = True
    for is_end, group in groupby(lexer, lambda word: word[0] in ";&|"):
        words = [w for w in _without_redirects(group) if not re.match(r"\w+=", w)]
        if words and not is_end:
            yield words


def _without_redirects(group: Iterator[str]) -> Iterator[str]:
    for word in group:
        if word[0] in "<>":
            next(group, None)
        else:
            yield word


def _pending(words: list[str]) -> None:
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(click.Context(command), words)
        assert found, name
        command = found
    command.make_parser(click.Context(command)).parse_args(words)


def _make(words: list[str]) -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {word for word in words if "=" not in word} <= set(targets), words


def _python(words: list[str]) -> None:
    first = words[0]
    if first == "-c":
        compile(words[1], "typed", "exec")
    elif first == "-m":
        sys.path.insert(0, str(Path.cwd()))
        assert importlib.util.find_spec(words[1]), words[1]
    else:
        command = [sys.executable, ROOT / first, "--help"]
        options = {word for word in words[1:] if word.startswith("--")}
        if options:
            known = subprocess.run(command, capture_output=True, text=True, check=True)
            assert options <= set(re.findall(r"--[\w-]+", known.stdout)), options
        assert (ROOT / first).exists()


def _arguments(make_parser: Callable[[], object]) -> Callable[[list[str]], None]:
    def parse(words: list[str]) -> None:
        make_parser().parse_args(words)  # type: ignore[attr-defined]

    return parse


_OURS: dict[str, Callable[[list[str]], None]] = {
    "pending": _pending,
    "make": _make,
    "python": _python,
    "python3": _python,
    "dramatiq": _arguments(dramatiq.cli.make_argument_parser),
    "periodiq": _arguments(periodiq.make_argument_parser),
}
