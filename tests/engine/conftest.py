"""Puts a generated project of one backend, with every route, on the path of the tests.

`pytest tests/engine --backend redis` bakes it; `--project=PATH` names one that exists.
"""

import os
import sys
import tempfile
from pathlib import Path

import pytest

from tests.baking import BACKENDS, QUESTIONS, ROUTES, SLUG, Answers, bake_into

#: The folders that hold tests of certain backends only.
OF_SOME = {backend: {backend} for backend in BACKENDS} | {
    "shared": {name for name, facts in QUESTIONS["_backends"].items() if facts["shared"]}
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--backend", choices=BACKENDS, default="memory", help="the engine under test")
    parser.addoption("--project", type=Path, help="a baked project of that backend")


def pytest_configure(config: pytest.Config) -> None:
    backend = config.getoption("backend")
    project = config.getoption("project")
    if project is None:
        folder = tempfile.TemporaryDirectory()
        config.add_cleanup(folder.cleanup)
        project = bake_into(Path(folder.name), Answers(backend, tuple(ROUTES)))
    source = project.resolve() / "src"
    assert source.joinpath(SLUG, "caching").is_dir(), f"{project} is no project called {SLUG}"
    sys.path.insert(0, str(source))
    paths = [str(source), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))  # for processes of the tests
    config.addinivalue_line("filterwarnings", "error")
    # It asks Flask 3.2 for the class of 3.1's second context, wherever `flask` loads its commands.
    config.addinivalue_line("filterwarnings", "default::DeprecationWarning:flask_limiter")
    for module in ("fixtures", f"{backend}.backend"):  # they import the project
        config.pluginmanager.import_plugin(f"tests.engine.{module}")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    of = OF_SOME.get(collection_path.name)
    return True if of is not None and config.getoption("backend") not in of else None
