"""A project on each Python that is installed, and with the lowest versions that it declares."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from tests.baking import BACKENDS, QUESTIONS, ROOT, ROUTES, SLUG, Answers, files
from tests.serving import get, make_serve, redis_env, redis_server

TEMPLATE = "{{cookiecutter.project_slug}}"
WORKFLOWS = [ROOT / folder / ".github/workflows/ci.yml" for folder in (".", TEMPLATE)]


def matrix(workflow: Path) -> list[str]:
    """Return the versions of Python on which a workflow runs."""
    (versions,) = re.findall(r"^ +python: (.*)", workflow.read_text(), re.MULTILINE)
    return list(json.loads(versions))


#: The versions of Python that a project supports.
SUPPORTED = matrix(WORKFLOWS[0])
UV = [sys.executable, "-m", "uv", "--no-python-downloads"]
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK_", "PYTEST_"))}


class Python(NamedTuple):
    """An installed Python."""

    version: str
    program: str

    def __str__(self) -> str:
        return self.version


def installed() -> list[Python]:
    """Return one Python of each supported version that is on PATH, or was installed by uv or pyenv.

    The one that runs this is always among them.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [CLEAN["PATH"], *map(str, sorted(pyenv.glob("versions/*/bin")))]
    listed = subprocess.run(
        [*UV, "python", "list", "--only-installed", "--output-format=json"],
        env=CLEAN | {"PATH": os.pathsep.join(folders)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # it warns of each that is older than it knows
        check=True,
    ).stdout
    found = {platform.python_version_tuple()[:2]: Python(platform.python_version(), sys.executable)}
    for one in json.loads(listed):
        if one["implementation"] == "cpython" and one["variant"] == "default":
            minor = tuple(one["version"].split(".")[:2])
            if ".".join(minor) in SUPPORTED:
                found.setdefault(minor, Python(one["version"], one["path"]))
    return sorted(found.values(), key=lambda python: Version(python.version))


PYTHONS = installed()


def declared(root: Path) -> set[str]:
    """Return all that a project requires: to run, to be developed and to be built."""
    about = tomllib.loads((root / "pyproject.toml").read_text())
    return {
        *about["project"]["dependencies"],
        *about["dependency-groups"]["dev"],
        *about["build-system"]["requires"],
    }


def environment(python: Python, resolution: str, roots: list[Path]) -> Path:
    """Return an environment with the packages of all projects; it is made anew if they change."""
    packages = sorted(set().union(*map(declared, roots)))
    folder = ROOT / f"build/pythons/{python}-{resolution}"
    made = folder / "made-for.json"
    wanted = json.dumps([python.program, *packages])
    if not made.exists() or made.read_text() != wanted:
        venv = ["venv", "--clear", "--no-project", "--python", python.program, str(folder)]
        install = ["pip", "install", "--python", str(folder), "--resolution", resolution]
        for command in (venv, [*install, *packages]):
            subprocess.run([*UV, "--quiet", *command], env=CLEAN, check=True)
        made.write_text(wanted)
    return folder


def each_in_one_process(pythons: list[Python]) -> pytest.MarkDecorator:
    """Parametrize by Python; xdist runs the tests with one in one process."""
    params = [pytest.param(one, marks=pytest.mark.xdist_group(one.version)) for one in pythons]
    return pytest.mark.parametrize("python", params, ids=map(str, pythons))


@pytest.fixture
def projects(project: Callable[[Answers], Path]) -> dict[str, Path]:
    """Return a project of each backend, with every route."""
    return {backend: project(Answers(backend, tuple(ROUTES))) for backend in BACKENDS}


def check(root: Path, environment: Path) -> str:
    """Lint and type a project and run its tests; return the last line that pytest printed."""
    for command in (
        "ruff check --no-cache",
        "ruff format --check --no-cache",
        f"mypy --cache-dir={environment}/mypy",
        "pytest -q -p no:cacheprovider",
    ):
        program, *arguments = command.split()
        done = subprocess.run(
            [environment / "bin/python", "-m", program, *arguments],
            cwd=root,
            env=CLEAN | {"PYTHONPATH": str(root / "src")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout, done.stdout[-5000:]
    return done.stdout.splitlines()[-1]


@pytest.mark.proof
@pytest.mark.parametrize("backend", BACKENDS)
@each_in_one_process(PYTHONS)
def test_a_project_passes_its_checks_on_each_installed_python(
    python: Python,
    backend: str,
    projects: dict[str, Path],
    record_property: Callable[[str, object], None],
) -> None:
    """With the newest versions of its packages."""
    newest = environment(python, "highest", [*projects.values()])
    record_property("suite", check(projects[backend], newest))
    record_property("python", python.version)


@pytest.mark.proof
@pytest.mark.parametrize("backend", BACKENDS)
@each_in_one_process(list(dict.fromkeys([PYTHONS[0], PYTHONS[-1]])))
def test_a_project_passes_its_checks_and_serves_with_the_lowest_versions_that_it_declares(
    python: Python,
    backend: str,
    projects: dict[str, Path],
    record_property: Callable[[str, object], None],
    tmp_path: Path,
) -> None:
    root = tmp_path / "project"
    shutil.copytree(projects[backend], root)
    lowest = environment(python, "lowest-direct", [*projects.values()])
    assert_bounds(lowest, declared(root))
    assert_wheel_is_complete(root, lowest, tmp_path)
    record_property("suite", check(root, lowest))
    record_property("python", python.version)
    with ExitStack() as stack:
        env = {"BIN": str(lowest / "bin"), "FLASK_SECRET_KEY": "a secret key for tests"}
        if backend == "redis":
            env |= redis_env(stack.enter_context(redis_server(tmp_path))[0])
        workers: int = QUESTIONS["_backends"][backend]["processes"]
        address = stack.enter_context(make_serve(root, workers, **env))
        assert [get(f"{address}{page}")[0] for page in ("/recent_posts", "/metrics")] == [200, 200]


def assert_bounds(environment: Path, requirements: set[str]) -> None:
    """Check that each required package is there, in the lowest version that is allowed."""
    listed = subprocess.run(
        [*UV, "pip", "list", "--python", environment, "--format=json"],
        capture_output=True,
        check=True,
    ).stdout
    versions = {one["name"]: Version(one["version"]) for one in json.loads(listed)}
    for requirement in map(Requirement, requirements):
        (bound,) = requirement.specifier
        assert bound.operator == ">="
        assert versions[requirement.name.replace("_", "-")] == Version(bound.version)


def assert_wheel_is_complete(root: Path, environment: Path, folder: Path) -> None:
    """Check that the builder in the environment packs all that is in `src`."""
    build = ["build", "--quiet", "--wheel", "--no-build-isolation", "--python", str(environment)]
    subprocess.run([*UV, *build, "--out-dir", folder, root], env=CLEAN, check=True)
    (wheel,) = folder.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith(f"{SLUG}/")}
    assert packed == {name.removeprefix("src/") for name in files(root) if name.startswith("src/")}


def test_a_project_is_tested_on_the_same_pythons_as_the_template() -> None:
    assert [matrix(workflow) for workflow in WORKFLOWS] == [SUPPORTED, SUPPORTED]


def test_the_weekly_proof_has_every_python_and_runs_on_the_oldest() -> None:
    weekly = yaml.safe_load(WORKFLOWS[0].read_text())["jobs"]["weekly"]["steps"]
    (given,) = [step["with"] for step in weekly if "python-version" in step.get("with", {})]
    assert given["python-version"].split() == [*SUPPORTED[1:], SUPPORTED[0]]
