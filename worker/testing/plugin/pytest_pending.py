"""The pytest plugin: no bell of a test reaches Redis, and failures say why.

Loaded by each run of pytest where this is installed, so it imports nothing until a
fixture is asked for; hence it is no part of `worker`, whose parts that are the heavy
ones. What tests call is in `worker.testing`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from worker.testing import Mark

_SETTING = "PENDING_KICKS"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "pending_kicks", "let marks ring bells in Redis, as outside of tests", "bool"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before any conftest imports the application, which reads its settings then."""
    if not early_config.getini("pending_kicks") and _SETTING not in os.environ:
        os.environ[_SETTING] = "no"
        early_config.add_cleanup(_forget)


def _forget() -> None:
    os.environ.pop(_SETTING, None)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Say what happened where `drain() == {…}` does not hold."""
    explained = getattr(left, "explained", None)
    if type(left).__module__ != "worker.testing.draining" or explained is None:
        return None
    return [f"drained {dict(left)} {op} {right}", *explained()]  # type: ignore[call-overload]


@pytest.fixture
def pending_marks() -> Iterator[list[Mark]]:
    """The marks since the test began, in their order: `[("user.needs_mail", 1)]`."""
    from worker.testing import marks  # noqa: PLC0415 (heavy)

    with marks() as made:
        yield made


@pytest.fixture
def pending_kicks() -> Iterator[list[str]]:
    """The flags whose bells were rung since the test began: `["user.needs_mail"]`."""
    from worker.testing import kicks  # noqa: PLC0415 (heavy)

    with kicks() as rung:
        yield rung
