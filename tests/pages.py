"""Runs a page of the documentation, block by block: `python tests/pages.py PAGE`.

Python runs one block after the other in one namespace; a block that begins with a path
(`# shop/models.py`) is written into that file instead. SQL runs on the database that
`DATABASE_URL` names; commands could be typed, and data parse. What a page's blocks need
and no reader is in a comment of the page, `<!-- invisible-code-block: python`; `work()`
there does everything that is due, in this process.
"""

from __future__ import annotations

import ast
import asyncio
import configparser
import inspect
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import typed
import yaml
from house import BIN
from markdown_it import MarkdownIt
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

from models import database
from models.connection import connected
from worker.handlers import _handlers
from worker.kicking import kick

#: Not run: what programs say, and drawings.
SHOWN = {"", "text"}


def run(page: Path) -> None:
    """Run the blocks of `page`.

    Raises:
        Exception: whatever one of them raises; the traceback names the page's line.
    """
    text = page.read_text()
    tokens = MarkdownIt().parse(text)
    languages = {token.info.strip() for token in tokens if token.type == "fence"}
    assert languages <= EVALUATORS.keys() | SHOWN, languages
    parsers = [CodeBlockParser(*pair) for pair in EVALUATORS.items()]
    document = Sybil(parsers=parsers).parse(page)
    document.namespace |= {"work": work, "__name__": page.stem}
    _handlers.clear()  # pages have users and welcomes of their own
    with connected(database):
        for example in document:
            if not _is_a_file(example):
                example.evaluate()
    _look_for_unknown_names(text)


def work() -> None:
    """Do everything that is due, by the handlers that the page has made."""
    for label in list(_handlers):
        kick(label)


def _is_a_file(example: Example) -> bool:
    """Write a block that begins with a path, `# shop/models.py`, into that file."""
    path = re.match(r"# ([\w/]+\.py)\n", str(example.parsed))
    if path:
        Path(path[1]).parent.mkdir(exist_ok=True)
        Path(path[1]).write_text(str(example.parsed))
    return path is not None


def _look_for_unknown_names(text: str) -> None:
    """Functions that a page only shows are not called: their names must be known."""
    blocks = re.findall(
        r"^(?:```python|<!-- invisible-code-block: python)\n(.*?)^(?:```|-->)",
        text,
        re.DOTALL | re.MULTILINE,
    )
    code = "from pages import work\n" + "\n".join(blocks)
    options = ("--isolated", "--select", "F821,F823", "--quiet", "-")
    subprocess.run([BIN / "ruff", "check", *options], input=code, text=True, check=True)


def _python(example: Example) -> None:
    """Also with an `await` outside of functions: then in an event loop."""
    before = "\n" * (example.line + example.parsed.line_offset)
    may_await = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(before + example.parsed, example.path, "exec", may_await)
    if inspect.iscoroutine(awaitable := eval(code, example.namespace)):
        asyncio.run(awaitable)


def _sql(example: Example) -> None:
    database.execute_sql(str(example.parsed).replace("%", "%%"))


def _console(example: Example) -> None:
    commands = list(typed.commands_in(str(example.parsed)))
    assert commands, "a console block shows commands, each behind a `$ `"
    for words in commands:
        typed.check(words)


def _ini(example: Example) -> None:
    parser = configparser.RawConfigParser(strict=False)
    parser.read_string(str(example.parsed))
    assert parser.sections()


def _procfile(example: Example) -> None:
    for line in str(example.parsed).splitlines():
        name, colon, command = line.partition(": ")
        assert colon, line
        assert name.isidentifier(), line
        typed.check(command.split())


def _parses(parse: Callable[[str], object]) -> Callable[[Example], None]:
    def evaluate(example: Example) -> None:
        assert parse(str(example.parsed))

    return evaluate


EVALUATORS: dict[str, Callable[[Example], None]] = {
    "python": _python,
    "sql": _sql,
    "console": _console,
    "ini": _ini,
    "procfile": _procfile,
    "json": _parses(json.loads),
    "toml": _parses(tomllib.loads),
    "yaml": _parses(lambda text: list(yaml.safe_load_all(text))),
}


if __name__ == "__main__":
    run(Path(sys.argv[1]).resolve())
