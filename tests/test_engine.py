"""The proof in `tests/engine`, against a project of each backend with its real engine."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.baking import BACKENDS, ROOT, ROUTES, Answers

FOLDER = ROOT / "tests/engine"
#: Two runs of about the same length, so that two processes share the load.
RUNS = {
    "every backend": [str(path) for path in sorted(FOLDER.glob("test_*.py"))],
    "backend and monitoring": [str(FOLDER), f"--ignore-glob={FOLDER}/test_*.py"],
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_engine_is_proved_with_each_backend(
    backend: str,
    run: str,
    project: Callable[[Answers], Path],
    record_property: Callable[[str, object], None],
) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [f"--backend={backend}", f"--project={project(Answers(backend, tuple(ROUTES)))}"]
    done = subprocess.run(
        [*command, *RUNS[run]],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith(("FLASK_", "PYTEST_"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    passed = re.search(r"^\d+ passed in ", done.stdout, re.MULTILINE)
    assert passed, done.stdout[-5000:]  # and nothing was skipped
    record_property("suite", passed[0])
