"""Every combination passes its own tests, against the real engine."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.baking import EDGES, PRODUCT, ROUTES, SLUG, Answers, each, files

#: With so many different keys the bound of the memory backend is checked, once.
MANY = "1_000_000"
#: What the tests of the cache and of its monitoring run: where that is the same, one run speaks for
#: all.
SHARED = {
    "tests/caching": (f"src/{SLUG}/caching/", f"src/{SLUG}/settings.py"),
    "tests/monitoring": (
        f"src/{SLUG}/caching/",
        f"src/{SLUG}/monitoring/",
        f"src/{SLUG}/settings.py",
        f"src/{SLUG}/__init__.py",
    ),
}


@each(PRODUCT + EDGES)
def test_a_project_passes_its_own_tests(
    answers: Answers,
    project: Callable[[Answers], Path],
    claim: Callable[[str], bool],
    record_property: Callable[[str, object], None],
) -> None:
    root = project(answers)
    shared = [tests for tests in SHARED if not claim(digest(root, tests))]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        + [f"--ignore={tests}" for tests in shared],
        cwd=root,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        | {"PYTHONPATH": str(root / "src")}
        | ({"TEST_KEYS": MANY} if answers == PRODUCT[0] else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout, done.stdout[-5000:]
    record_property("combination", str(answers))
    record_property("suite", done.stdout.splitlines()[-1])


def digest(root: Path, tests: str) -> str:
    """Return what tells the code that `tests` run from that of other projects."""
    begin = (*SHARED[tests], f"{tests}/", "tests/conftest.py", "tests/backend.py")
    under_test = {n: content for n, content in files(root).items() if n.startswith(begin)}
    return hashlib.sha256(repr(under_test).encode()).hexdigest()


def test_the_examples_can_go(
    bake: Callable[..., object], record_property: Callable[[str, object], None]
) -> None:
    """Without its routes, models and their tests a project starts, and passes what is left."""
    result = bake(**Answers("disk", tuple(ROUTES)).context)
    root: Path = result.project_path  # type: ignore[attr-defined]
    routes = [path for path in (root / f"src/{SLUG}/routes").iterdir() if path.stem != "__init__"]
    models = [root / f"src/{SLUG}/models.py", root / "tests/database.py"]
    for path in [*routes, *(root / "tests/routes").iterdir(), *models]:
        path.unlink()
    (root / f"src/{SLUG}/routes/helper.py").write_text('"""A module without a blueprint."""\n')
    for command in (
        "ruff check",
        "ruff format --check",
        "mypy",
        f"flask --app {SLUG} routes",
        "pytest -q",
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command.split()],
            cwd=root,
            env={k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "FLASK_"))}
            | {"PYTHONPATH": str(root / "src"), "FLASK_SECRET_KEY": "a secret of the tests"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-5000:]}{done.stderr[-2000:]}"
    record_property("suite", done.stdout.splitlines()[-1])
    make = subprocess.run(
        ["make", "-n", "run"], cwd=root, capture_output=True, text=True, check=True
    )
    assert "init-db" not in make.stdout


@pytest.mark.parametrize("route", ["hello", "user", "daily_stats", "stats", "recent_posts"])
def test_the_tests_of_an_example_notice_when_it_is_broken(
    route: str, bake: Callable[..., object], tmp_path: Path
) -> None:
    """An example whose view is empty fails its test: the tests above would notice."""
    result = bake(**Answers("memory", (route,)).context)
    root: Path = result.project_path  # type: ignore[attr-defined]
    module = root / f"src/{SLUG}/routes/{route}.py"
    lines = module.read_text().splitlines(keepends=True)
    broken = [line if "return " not in line else "    return {}\n" for line in lines]
    module.write_text("".join(broken))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/routes"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root / "src")},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
