"""The generated projects that are measured: baked once, each used in processes of its own."""

import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from cookiecutter.main import cookiecutter

T = TypeVar("T")

TEMPLATE = Path(__file__).parents[1]
SLUG = "shop"


class Projects:
    """Everything that a run writes, in `folder`: projects, scratch folders, Cookiecutter's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: A configuration of Cookiecutter's under which it leaves the user's home alone.
        self.config = folder / "cookiecutter.yaml"
        self.config.write_text(
            f"replay_dir: '{folder / 'replay'}'\ncookiecutters_dir: '{folder / 'templates'}'\n"
        )

    def scratch(self) -> Path:
        """Return a new empty folder; all of them are on one file system."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def bake(self, backend: str) -> Path:
        """Return the project with `backend` and without example routes."""
        output = self.folder / backend
        if not output.exists():
            cookiecutter(
                str(TEMPLATE),
                no_input=True,
                output_dir=str(output),
                config_file=str(self.config),
                accept_hooks=False,  # they check answers and print
                extra_context={
                    "project_slug": SLUG,
                    "cache_backend": backend,
                    "route_hello": False,
                    "route_user": False,
                    "route_daily_stats": False,
                    "route_stats": False,
                    "route_recent_posts": False,
                },
            )
        return output / SLUG

    def inside(self, backend: str, function: Callable[..., T], *args: object) -> T:
        """Call `function` in a new process that can import the project with `backend`."""
        with ProcessPoolExecutor(
            1,
            mp_context=get_context("spawn"),
            initializer=_enter,
            initargs=(self.bake(backend),),
        ) as pool:
            return pool.submit(function, *args).result()


def _enter(project: Path) -> None:
    """Make `project` importable, and no setting of this shell or folder count."""
    sys.path.insert(0, str(project / "src"))
    os.chdir(project)
    for name in [name for name in os.environ if name.startswith("FLASK_")]:
        del os.environ[name]
