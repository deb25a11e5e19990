"""The pages: every block of code runs, and the site is whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from house import BIN, ROOT

DOCS = ROOT / "docs"
FOLDERS = (".", "docs/**", "bench", ".github")
PAGES = sorted(
    page
    for one in FOLDERS
    for page in ROOT.glob(f"{one}/*.md")
    if ".venv" not in page.relative_to(ROOT).parts  # of an example that was run
)


@pytest.fixture
def page_environment(server_url: Callable[[str], str]) -> dict[str, str]:
    """What a page's program finds: a PostgreSQL of its own, and this project."""
    return {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        "DATABASE_URL": server_url("postgresql"),
        "REDIS_URL": os.environ["REDIS_URL"],
        "REDIS_NAMESPACE": os.environ["REDIS_NAMESPACE"],
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_runs(
    page: Path, page_environment: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tests/pages.py", page],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=page_environment,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    command = re.search(r"sphinx-build (.*) docs var/site", _makefile())
    assert command
    words = (BIN / "sphinx-build", *command[1].split(), DOCS, folder)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_has_every_page(site: Path) -> None:
    """And Sphinx has found no link that leads nowhere: that is an error."""
    built = {path.stem for path in site.glob("*.html")}
    assert {page.stem for page in DOCS.glob("*.md")} - built == {"README"}


def test_the_site_s_index_and_the_folder_s_name_every_page() -> None:
    pages = {page.name for page in DOCS.glob("*.md")} - {"README.md"}
    named = set(re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / "README.md").read_text()))
    assert named == pages
    listed = re.findall(r"^   ([\w-]+)$", (DOCS / "index.rst").read_text(), re.M)
    assert {f"{name}.md" for name in listed} == pages


def test_who_reads_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    fetched = r"""(?:<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=|url\(|@import )"""
    for path in [*site.glob("*.html"), *site.glob("_static/**/*.css")]:
        found = re.findall(fetched + r"""["']?(https?:)?//""", path.read_text())
        assert found == [], path


def test_every_picture_of_a_page_is_in_the_site(site: Path) -> None:
    for path in site.glob("*.html"):
        for source in re.findall(r'<img[^>]*? src="([^"]+)"', path.read_text()):
            assert (site / source).exists(), f"{path.name}: {source}"


def _makefile() -> str:
    return (ROOT / "Makefile").read_text()
