"""Every combination passes its own tests, against the real engine.

The tests of the template's part are the same in many combinations, and so is the code that they
test: it is compared, byte by byte, and they run where every route was chosen, none, or an extreme
timeout.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.baking import EDGES, EXTREMES, PRODUCT, ROUTES, SLUG, Answers, each, files

TEMPLATES_TESTS = ("tests/caching/", "tests/monitoring/")
#: All that those tests run.
TEMPLATES_PART = (
    *TEMPLATES_TESTS,
    *("tests/conftest.py", "tests/backend.py", f"src/{SLUG}/__init__.py"),
    *(f"src/{SLUG}/caching/", f"src/{SLUG}/monitoring/"),
)


def templates_part(project: Path) -> dict[str, bytes]:
    """Return the files of the template's part of a project, with the tests of it."""
    return {name: text for name, text in files(project).items() if name.startswith(TEMPLATES_PART)}


@each(PRODUCT + EDGES)
def test_a_project_passes_its_own_tests(
    answers: Answers,
    project: Callable[[Answers], Path],
    record_property: Callable[[str, object], None],
    tmp_path: Path,
) -> None:
    root = project(answers)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    if answers not in EXTREMES + EDGES:
        same = project(Answers(answers.backend, tuple(ROUTES)))
        assert templates_part(root) == templates_part(same)
        command += [f"--ignore={tests}" for tests in TEMPLATES_TESTS]
    done = subprocess.run(
        command,
        cwd=root,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        # With temporary folders of its own: a run at the same time would clean up shared ones.
        | {"PYTHONPATH": str(root / "src"), "PYTEST_DEBUG_TEMPROOT": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout, done.stdout[-5000:]
    record_property("combination", str(answers))
    record_property("suite", done.stdout.splitlines()[-1])


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
        env=os.environ | {"PYTHONPATH": str(root / "src"), "PYTEST_DEBUG_TEMPROOT": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
