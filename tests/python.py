"""Python in a process of its own, with an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys


def run_python(
    code: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `code` to its end; `environment` is added to that of the tests."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )


def pending(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the `pending` command to its end."""
    return run_python("from worker.cli import main; main()", *arguments, **environment)
