"""The files of docs/deploy are what the tools that read them take, and ours as well."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typed
import yaml
from house import BIN, ROOT

from worker.settings import settings_from

DEPLOY = ROOT / "docs/deploy"
UNITS = sorted(DEPLOY.glob("systemd/*.service"))
MANIFESTS = sorted(DEPLOY.glob("kubernetes/*.yaml"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def passes(*command: str | Path) -> None:
    """Run a linter; it must have nothing to say."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def service_of(unit: Path) -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read(unit)
    return parser["Service"]


def containers_of(manifest: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for document in yaml.safe_load_all(manifest.read_text()):
        pod = document["spec"].get("template", {}).get("spec", {})
        for container in pod.get("containers", ()):
            yield pod, container


def test_the_dockerfile_is_a_good_one() -> None:
    passes(BIN / "hadolint", "--no-color", DEPLOY / "Dockerfile")


def test_the_dockerfile_copies_what_is_there() -> None:
    """All but the reader's own package."""
    text = (DEPLOY / "Dockerfile").read_text()
    sources = [
        w for line in re.findall(r"^COPY (.*) \S+$", text, re.M) for w in line.split()
    ]
    assert {one for one in sources if not (ROOT / one).exists()} == {"shop"}


def test_compose_takes_its_file() -> None:
    schema = ("--builtin-schema", "vendor.compose-spec")
    passes(BIN / "check-jsonschema", *schema, DEPLOY / "compose.yaml")


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_kubernetes_takes_the_manifests(manifest: Path) -> None:
    passes(BIN / "kubernetes-validate", "--strict", manifest)


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_takes_the_units(unit: Path, tmp_path: Path) -> None:
    """As far as it is on this machine; the commands are where the test has them."""
    for other in UNITS:
        text = other.read_text().replace("/srv/shop/.venv/bin", str(BIN))
        (tmp_path / other.name).write_text(text.replace("User=shop\n", ""))
    if shutil.which("systemd-analyze"):
        passes("systemd-analyze", "verify", "--man=no", tmp_path / unit.name)
    assert service_of(unit)["ExecStart"].startswith("/srv/shop/.venv/bin/")


def test_workers_hear_sigterm_in_their_main_process_alone_and_have_time_to_stop() -> (
    None
):
    worker = service_of(DEPLOY / "systemd/shop-worker.service")
    assert worker["KillMode"] == "mixed"
    assert int(worker["TimeoutStopSec"]) >= 60
    assert COMPOSE["services"]["worker"]["stop_grace_period"] == "60s"
    ((pod, _),) = containers_of(DEPLOY / "kubernetes/worker.yaml")
    assert pod["terminationGracePeriodSeconds"] >= 60


def commands() -> Iterator[list[str]]:
    """Yield every command of ours that the files hold."""
    for unit in UNITS:
        yield service_of(unit)["ExecStart"].split()
    for line in (DEPLOY / "Procfile").read_text().splitlines():
        yield line.partition(": ")[2].split()
    for name, service in COMPOSE["services"].items():
        if name not in {"database", "redis"}:
            yield service["command"]
            yield service.get("healthcheck", {}).get("test", ("", "true"))[1:]
    for manifest in MANIFESTS:
        for _, container in containers_of(manifest):
            yield container["command"]
            probe = container.get("readinessProbe", {}).get("exec", {})
            yield probe.get("command", ["true"])


@pytest.mark.parametrize(
    "words", [c for c in commands() if c[0] != "true"], ids=" ".join
)
def test_every_command_could_be_typed(words: list[str]) -> None:
    typed.check(words)


def test_every_setting_is_one() -> None:
    environments = [
        COMPOSE["services"][name]["environment"] for name in ("worker", "dashboard")
    ]
    lines = (DEPLOY / "systemd/shop.env").read_text().splitlines()
    environments.append(dict(line.split("=", 1) for line in lines))
    readme = (ROOT / "README.md").read_text()
    for environment in environments:
        settings_from({k: v.partition(":?")[0] for k, v in environment.items()})
        assert [name for name in environment if f"| `{name}` |" not in readme] == []
