"""The questions of the template, every combination of answers, and how one is baked."""

import contextlib
import itertools
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cookiecutter.main import cookiecutter

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
    """Bake a project in `folder`, for scripts: without hooks, without a trace elsewhere."""
    config = folder / "cookiecutter.yaml"
    config.write_text(f"replay_dir: '{folder}/replay'\ncookiecutters_dir: '{folder}/templates'\n")
    project = cookiecutter(
        str(ROOT),
        no_input=True,
        extra_context=answers.context,
        output_dir=str(folder / answers.backend),
        config_file=str(config),
        accept_hooks=False,  # they check answers and print
    )
    return Path(project)


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
