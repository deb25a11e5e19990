"""What the README says is so."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from house import ROOT

from models import database
from worker.handlers import handler_named
from worker.kicking import kick

README = (ROOT / "README.md").read_text()
MAP = (ROOT / "docs/map.md").read_text()
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def test_the_first_program_does_what_it_says(handlers: None, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    program = tmp_path / "program.py"
    program.write_text(code)
    with database:
        names = runpy.run_path(str(program))
    customer = names["Customer"]
    try:
        assert handler_named("customer.needs_greeting")
        kick("customer.needs_greeting")
        with database:
            dan = customer.get(email="dan@example.com")
        assert (dan.greeting, dan.needs_greeting) == ("Hello, dan@example.com", False)
    finally:
        with database:
            customer.drop_table()


def test_the_first_code_is_near_the_top_and_the_whole_is_short() -> None:
    lines = README.splitlines()
    assert lines.index("```python") < 25
    assert len(lines) <= 200


def test_every_setting_has_its_line() -> None:
    table = set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE))
    sources = ("worker/settings.py", "models/connection.py", "models/example.py")
    code = "".join((ROOT / source).read_text() for source in sources)
    assert table == set(
        re.findall(
            r"\b(?:[A-Z]+_(?:URL|FROM|CRON|SECONDS|NAMESPACE|MODULES|FORMAT)"
            r"|DASHBOARD_[A-Z_]+|PENDING_[A-Z]+|PORT)\b",
            code,
        )
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_every_module_is_on_the_map() -> None:
    named = set(re.findall(r"^\| \[`([^`]+)`\]", MAP, re.MULTILINE))
    modules = [*ROOT.glob("models/*.py"), *ROOT.glob("worker/*.py")]
    names = {str(module.relative_to(ROOT)) for module in modules}
    assert names - named == {"models/__init__.py", "worker/__init__.py"}


def test_every_test_that_the_guarantees_name_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/guarantees.md").read_text()))
    code = "".join(path.read_text() for path in ROOT.glob("tests/test_*.py"))
    assert len(named) > 60
    assert named - set(re.findall(r"^def (test_\w+)\(", code, re.MULTILINE)) == set()


def test_the_pictures_are_small_and_each_is_shown_somewhere() -> None:
    shown = "".join(page.read_text() for page in PAGES)
    for picture in (ROOT / "docs/pictures").iterdir():
        assert f"pictures/{picture.name}" in shown
        assert picture.stat().st_size < 300_000
