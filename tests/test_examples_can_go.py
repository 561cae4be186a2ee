"""An owner can remove the examples: every route, the models and their tests."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.baking import BACKENDS, ROUTES, SLUG, Answers

#: What a project without its examples must still pass.
COMMANDS = f"""
    ruff check --no-cache
    ruff format --check --no-cache
    mypy --cache-dir=/dev/null
    flask --app {SLUG} routes
    pytest -q -p no:cacheprovider -p no:xdist
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_its_examples_a_project_starts_lints_and_passes(
    backend: str, project: Callable[[Answers], Path], tmp_path: Path
) -> None:
    root = tmp_path / "shop"
    shutil.copytree(project(Answers(backend, tuple(ROUTES))), root)
    routes = [path for path in root.glob(f"src/{SLUG}/routes/*.py") if path.stem != "__init__"]
    assert len(routes) == len(ROUTES)
    for path in (*routes, root / f"src/{SLUG}/models.py", root / "tests/database.py"):
        path.unlink()
    shutil.rmtree(root / "tests/routes")
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "FLASK_"))}
    environ |= {"PYTHONPATH": str(root / "src"), "FLASK_SECRET_KEY": "a secret key of the tests"}
    environ |= {"PYTEST_DEBUG_TEMPROOT": str(tmp_path)}  # which no other run cleans up
    for command in COMMANDS.strip().splitlines():
        done = subprocess.run(
            [sys.executable, "-m", *command.split()],
            cwd=root,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-5000:]}{done.stderr[-2000:]}"
        assert "skipped" not in done.stdout
    make = subprocess.run(
        ["make", "-n", "run"], cwd=root, capture_output=True, text=True, check=True
    )
    assert "/user/1" not in make.stdout
