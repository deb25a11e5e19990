"""The `pending` command as people type it: what it says, and how it ends."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from postbox import free_port
from python import pending


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def url(request, server_url):
    return server_url(request.param)


def test_migrate_says_what_it_applied_and_is_harmless_twice(url):
    first, second = (pending("migrate", DATABASE_URL=url) for _ in range(2))
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == "applied 0001_users\napplied 0002_operations\n"
    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout == "The schema is up to date.\n"


def test_signup_works_on_every_database(url):
    pending("migrate", DATABASE_URL=url)
    result = pending("signup", "dan@example.com", "Dan@example.com", DATABASE_URL=url)
    same = url.startswith("mysql")  # whose text is not case sensitive
    assert result.returncode == int(same)
    assert result.stdout.startswith("1 signed" if same else "2 signed")
    again = pending("signup", "dan@example.com", "eve@example.com", DATABASE_URL=url)
    assert again.returncode == 1
    assert again.stderr == "line 1: dan@example.com: signed up already\n"
    assert again.stdout == "1 signed up, 1 refused\n"


def test_a_missing_table_is_one_line_that_says_what_to_do(url):
    result = pending("signup", "dan@example.com", DATABASE_URL=url)
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("pending: the database ")
    assert line.endswith(
        "; run `pending migrate`, or create_table() of your own models"
    )


def test_a_migration_of_a_missing_table_says_who_makes_it(url, tmp_path):
    (tmp_path / "order.py").write_text(
        "from models import PendingFlag, PendingModel\n"
        "class Absent(PendingModel):\n    needs_it = PendingFlag()\n"
    )
    here = {
        "DATABASE_URL": url,
        "PENDING_MODULES": "order",
        "PENDING_MIGRATIONS": str(tmp_path / "scripts"),
        "PYTHONPATH": str(tmp_path),
    }
    assert pending("migration", "add", "absent.needs_it", **here).returncode == 0
    result = pending("migrate", **here)
    assert result.returncode == 1
    assert "make the table first, with create_table()" in result.stderr


def test_a_sweep_that_cannot_read_a_table_does_not_say_that_nothing_is_due(tmp_path):
    result = pending("sweep", DATABASE_URL=f"sqlite:///{tmp_path}/shop.db")
    assert (result.returncode, result.stdout) == (1, "rang for nothing\n")
    (line,) = result.stderr.splitlines()
    assert line.startswith("user.needs_welcome_email: ")
    assert line.endswith(
        "; run `pending migrate`, or create_table() of your own models"
    )


@pytest.mark.parametrize("command", [["migrate"], ["signup", "dan@example.com"]])
@pytest.mark.parametrize(
    "unreachable",
    [
        "postgresql://dan:secret@127.0.0.1:{port}/shop",
        "mysql://dan:secret@127.0.0.1:{port}/shop",
        "sqlite:////nowhere/shop.db",
    ],
)
def test_an_unreachable_database_is_one_line(unreachable, command):
    result = pending(*command, DATABASE_URL=unreachable.format(port=free_port()))
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("pending: the database ")
    assert "shop" in line
    assert "secret" not in line
    assert "; is it up, and named right in DATABASE_URL" in line


@pytest.mark.parametrize("wrong", ["foo", "oracle://localhost/shop", "://"])
def test_a_database_url_that_names_none_is_one_line(wrong):
    result = pending("migrate", DATABASE_URL=wrong)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("DATABASE_URL: ")


def test_signing_up_without_redis_does_not_fail(server_url):
    gone, url = f"redis://127.0.0.1:{free_port()}", server_url("sqlite")
    pending("migrate", DATABASE_URL=url, REDIS_URL=gone)
    result = pending("signup", "dan@example.com", DATABASE_URL=url, REDIS_URL=gone)
    assert (result.returncode, result.stdout) == (0, "1 signed up, 0 refused\n")
    assert "Traceback" not in result.stderr


def test_help_and_version_are_there():
    assert "signup" in pending("--help").stdout
    assert "migrate" in pending("-h").stdout
    assert version("pending-flags") in pending("--version").stdout
