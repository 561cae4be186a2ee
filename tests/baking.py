"""The questions of the template, every combination of answers, and how one is baked."""

import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
QUESTIONS: dict[str, Any] = json.loads((ROOT / "cookiecutter.json").read_text())
BACKENDS: list[str] = QUESTIONS["cache_backend"]
ROUTES = [name.removeprefix("route_") for name in QUESTIONS if name.startswith("route_")]
DATABASE_ROUTES = {"user", "daily_stats", "recent_posts"}
SLUG = "shop"


class Answers(NamedTuple):
    """One combination of answers."""

    backend: str
    routes: tuple[str, ...]
    timeout: str = QUESTIONS["default_timeout"]

    def __str__(self) -> str:
        return "-".join([self.backend, self.timeout, *self.routes])

    @property
    def database(self) -> bool:
        """Whether an example needs the database."""
        return bool(DATABASE_ROUTES & set(self.routes))

    @property
    def context(self) -> dict[str, Any]:
        """The answers as Cookiecutter takes them."""
        return {
            "project_name": "Shop",
            "project_slug": SLUG,
            "author": "Ada Lovelace",
            "cache_backend": self.backend,
            "default_timeout": self.timeout,
            **{f"route_{route}": route in self.routes for route in ROUTES},
        }


SUBSETS = [
    chosen for size in range(len(ROUTES) + 1) for chosen in itertools.combinations(ROUTES, size)
]
PRODUCT = [Answers(backend, routes) for backend in BACKENDS for routes in SUBSETS]
EDGES = [
    Answers(backend, tuple(ROUTES), timeout)
    for backend in BACKENDS
    for timeout in ("0", "1", "31536000")
]
#: For each backend, all of the routes and none.
EXTREMES = [Answers(backend, routes) for backend in BACKENDS for routes in (tuple(ROUTES), ())]


def each(combinations: list[Answers]) -> pytest.MarkDecorator:
    """Parametrize by combination; xdist runs the tests of one combination in one process."""
    return pytest.mark.parametrize(
        "answers",
        [
            pytest.param(one, id=str(one), marks=pytest.mark.xdist_group(str(one)))
            for one in combinations
        ],
    )


def bake_into(folder: Path, answers: Answers) -> Path:
    """Return a project baked with hooks into `folder`; Cookiecutter's own files stay there too."""
    project, own = folder / SLUG, folder / "cookiecutter"
    shutil.rmtree(project, ignore_errors=True)  # or files that are no longer baked would stay
    own.mkdir(parents=True, exist_ok=True)
    config = own / "config.yaml"
    config.write_text(f"replay_dir: '{own}'\ncookiecutters_dir: '{own}'\n")
    subprocess.run(
        [sys.executable, "-m", "cookiecutter", "--no-input", "-o", str(folder), str(ROOT)]
        + [f"{name}={answer}" for name, answer in answers.context.items()],
        env=os.environ | {"COOKIECUTTER_CONFIG": str(config), "TMPDIR": str(own)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return project


@contextlib.contextmanager
def no_network(folder: Path) -> Iterator[None]:
    """Refuse every connection, in this process and in the Python that runs the hooks."""

    def refuse(*_: Any) -> None:
        raise AssertionError("baking must not use the network")

    (folder / "sitecustomize.py").write_text(
        "import socket\n"
        "def refuse(*_): raise SystemExit('a hook must not use the network')\n"
        "socket.socket.connect = socket.socket.connect_ex = refuse\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket.socket, "connect_ex", refuse)
        patch.setenv("PYTHONPATH", str(folder))
        yield


def files(project: Path) -> dict[str, bytes]:
    """Return the contents of each file by its path in `project`."""
    return {
        path.relative_to(project).as_posix(): path.read_bytes()
        for path in sorted(project.rglob("*"))
        if path.is_file() and not {"__pycache__", ".mypy_cache"} & set(path.parts)
    }
