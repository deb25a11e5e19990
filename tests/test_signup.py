"""`pending signup`: whoever can be signed up is, and the others are reported."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest
from click.testing import CliRunner
from looking import state

from models import User
from models.connection import connected
from worker.cli import cli

FLAG = User.needs_welcome_email


@pytest.fixture(autouse=True)
def nobody_signed_up():
    with connected(User._meta.database):
        User.delete().execute()
        yield
        User.delete().execute()


def signup(*arguments, text=None):
    return CliRunner().invoke(cli, ["signup", *map(str, arguments)], input=text)


def signed_up():
    return sorted(user.email for user in User.select())


def addresses(number):
    return [f"user{n}@example.com" for n in range(number)]


def test_addresses_become_users_who_are_to_be_welcomed():
    result = signup("dan@example.com", "eve@example.com")
    assert result.exit_code == 0
    assert result.stdout == "2 signed up, 0 refused\n"
    assert result.stderr == ""
    assert signed_up() == ["dan@example.com", "eve@example.com"]
    for user in User.select():
        assert state(FLAG, user).flag
        assert state(FLAG, user).due == state(FLAG, user).at > 0


@pytest.mark.parametrize("way", ["--file", "--file -", "-"])
def test_addresses_are_read_from_a_file_or_standard_input(tmp_path, way):
    path, text = tmp_path / "addresses.txt", "dan@example.com\neve@example.com\n"
    path.write_text(text)
    arguments = ["--file", path] if way == "--file" else way.split()
    result = signup(*arguments, text=text)
    assert (result.exit_code, result.stdout) == (0, "2 signed up, 0 refused\n")
    assert signed_up() == ["dan@example.com", "eve@example.com"]


@pytest.mark.parametrize("way", ["file", "standard input"])
def test_files_from_other_systems_are_read_too(tmp_path, way):
    """A byte order mark, CRLF, blank lines, spaces, no last line break."""
    data = b"\xef\xbb\xbfdan@example.com\r\n\r\n  eve@example.com \t\r\n\n\nann@b.com"
    path = tmp_path / "addresses.txt"
    path.write_bytes(data)
    result = signup("--file", path) if way == "file" else signup("-", text=data)
    assert (result.exit_code, result.stdout) == (0, "3 signed up, 0 refused\n")
    assert signed_up() == ["ann@b.com", "dan@example.com", "eve@example.com"]


def test_what_is_refused_is_reported_with_its_line_and_the_others_go_through(tmp_path):
    User.create(email="old@example.com")
    path = tmp_path / "addresses.txt"
    path.write_bytes(
        b"dan@example.com\n\nnonsense\nold@example.com\ndan@EXAMPLE.com\n"
        b"eve@example.com\na@b@c.example\n\0@example.com\n" + b"x" * 5_000
    )
    result = signup("--file", path)
    assert result.exit_code == 1
    assert result.stdout == "2 signed up, 6 refused\n"
    problems = result.stderr.splitlines()
    assert [line.partition(":")[0] for line in problems] == [
        f"line {number}" for number in (3, 4, 5, 7, 8, 9)
    ]
    assert problems[0].startswith("line 3: nonsense: ")
    assert problems[1] == "line 4: old@example.com: signed up already"
    assert problems[2] == "line 5: dan@EXAMPLE.com: given twice"
    expected = ["dan@example.com", "eve@example.com", "old@example.com"]
    assert signed_up() == expected
    assert not User.get(User.email == "old@example.com").needs_welcome_email


def test_an_address_in_another_encoding_is_refused_not_mangled(tmp_path):
    path = tmp_path / "addresses.txt"
    path.write_bytes("dan@example.com\njörg@example.com\n".encode("latin-1"))
    result = signup("--file", path)
    assert result.exit_code == 1
    assert result.stderr.startswith("line 2: ")
    assert signed_up() == ["dan@example.com"]


def test_all_addresses_may_be_known_already():
    assert signup("dan@example.com").exit_code == 0
    result = signup("dan@example.com")
    assert (result.exit_code, result.stdout) == (1, "0 signed up, 1 refused\n")
    assert User.select().count() == 1


def test_the_domain_is_kept_in_lower_case_and_the_name_as_it_was_typed():
    signup("Dan.Brown@EXAMPLE.com", "jörg@BÜCHER.example")
    assert signed_up() == ["Dan.Brown@example.com", "jörg@bücher.example"]


def test_thousands_of_lines_go_through_in_transactions_of_hundreds(monkeypatch):
    sizes = []
    sign_up = User.sign_up

    def counted(emails):
        sizes.append(len(emails))
        return sign_up(emails)

    monkeypatch.setattr(User, "sign_up", counted)
    lines = [*addresses(5_000), "user17@example.com", "nonsense"]
    result = signup("-", text="\n".join(lines))
    assert (result.exit_code, result.stdout) == (1, "5000 signed up, 2 refused\n")
    assert "line 5001: user17@example.com: given twice" in result.stderr
    assert User.select().where(FLAG).count() == 5_000
    assert sum(sizes) == 5_000
    assert max(sizes) == 500


def test_somebody_who_signed_up_meanwhile_keeps_nobody_out(monkeypatch):
    """Between the look, which saw nobody, and the insert."""
    User.create(email="user1@example.com")
    select = User.select
    with monkeypatch.context() as patch:
        patch.setattr(User, "select", lambda *what: select(*what).where(User.id < 0))
        result = signup(*addresses(3))
    assert (result.exit_code, result.stdout) == (1, "2 signed up, 1 refused\n")
    assert result.stderr == "line 2: user1@example.com: signed up already\n"
    assert signed_up() == addresses(3)
    assert User.select().where(FLAG).count() == 2


@pytest.mark.parametrize(
    "arguments",
    [[], ["dan@example.com", "--file", "-"], ["--file", "/nowhere"], ["--nonsense"]],
)
def test_what_cannot_be_meant_is_explained(arguments):
    result = signup(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")
    assert "Error: " in result.stderr
    assert signed_up() == []


def test_an_empty_input_signs_nobody_up():
    result = signup("-", text="\n\n")
    assert (result.exit_code, result.stdout) == (0, "0 signed up, 0 refused\n")


@pytest.mark.parametrize(("lines", "shown"), [(1_000, True), (10, False)])
def test_progress_of_a_long_input_is_shown_on_a_terminal(tmp_path, lines, shown):
    path = tmp_path / "addresses.txt"
    path.write_text("\n".join(addresses(lines)))
    ours, theirs = pty.openpty()
    code = "from worker.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, "signup", "--file", str(path)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=120,
        check=True,
    )
    os.close(theirs)
    seen = read_all(ours)
    os.close(ours)
    assert ended.stdout.decode() == f"{lines} signed up, 0 refused\n"
    assert (b"Signing up" in seen and b"100%" in seen) is shown


def read_all(descriptor):
    """Read what hangs in a pseudo-terminal whose other end was closed."""
    seen = b""
    while True:
        try:
            piece = os.read(descriptor, 65_536)
        except OSError:  # Linux's way to say that there is no more
            return seen
        if not piece:
            return seen
        seen += piece
