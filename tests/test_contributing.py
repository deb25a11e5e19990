"""What the code host and those who join in read: it parses, and its commands exist."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest
import typed
import yaml
from house import BIN, ROOT

HOST = ROOT / ".github"
WORKFLOWS = sorted(HOST.glob("workflows/*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def passes(schema: str, *files: Path) -> None:
    """Check `files` by a schema that the tool brings along."""
    command = (BIN / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflows_are_what_the_host_takes() -> None:
    passes("github-workflows", *WORKFLOWS)


def test_the_issue_templates_are_what_the_host_takes() -> None:
    forms = {*HOST.glob("ISSUE_TEMPLATE/*.yml")} - {HOST / "ISSUE_TEMPLATE/config.yml"}
    passes("github-issue-forms", *forms)
    passes("github-issue-config", HOST / "ISSUE_TEMPLATE/config.yml")


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_workflow_runs_of_ours_is_there(workflow: Path) -> None:
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    runs = [
        step["run"] for job in jobs.values() for step in job["steps"] if "run" in step
    ]
    ours = [run.split() for run in runs if run.startswith("make ")]
    assert len(ours) > 3
    for words in ours:
        typed.check(words)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_the_shell_of_a_workflow_is_sound(workflow: Path) -> None:
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    for job in jobs.values():
        for step in job["steps"]:
            done = subprocess.run(
                (BIN / "shellcheck", "--shell=bash", "-"),
                input=f"set -e\n{step.get('run', '')}",  # as the host has it
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout


def test_every_python_that_is_promised_is_tested() -> None:
    jobs = yaml.safe_load((HOST / "workflows/ci.yml").read_text())["jobs"]
    prefix = "Programming Language :: Python :: 3."
    promised = {c.removeprefix(prefix) for c in PROJECT["classifiers"] if prefix in c}
    tested = jobs["pythons"]["strategy"]["matrix"]["python"]
    assert {f"3.{minor}" for minor in promised} == set(tested)


def test_the_hooks_before_a_commit_are_those_of_make_check() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())[
        "repos"
    ]
    makefile = (ROOT / "Makefile").read_text()
    for hook in repository["hooks"]:
        program, *words = hook["entry"].split()
        assert (ROOT / program).exists() or (BIN / Path(program).name).exists()
        name = " ".join([Path(program).name, *words[:1]]).removesuffix(" --fix")
        assert f"$(BIN)/{name}" in makefile


def test_the_version_has_its_place_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## Unreleased" in changelog or f"## {PROJECT['version']}" in changelog
