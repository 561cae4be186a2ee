"""One run of the benchmarks: its projects and folders, the processes it starts, its records."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from tests.baking import ROUTES, SLUG, Answers, bake_into

Number = TypeVar("Number", int, float)
TEMPLATE = Path(__file__).parents[1]
#: The pages that only the benchmarks need: a module that the project finds among its routes.
PAGES = '''"""More pages."""

from benchmarks.apps import more_pages

from ..caching import cache

bp = more_pages(cache)
'''


class Run:
    """Everything that a run writes is in `folder`."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder, self.quick = folder, quick
        #: Raw rounds, beside those of the rows; the commands of servers; the bars of the chart.
        self.raw: dict[str, list[Any]] = {}
        self.commands: dict[str, str] = {}
        self.bars: list[tuple[str, list[float]]] = []
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line of progress."""
        print(f"{time.monotonic() - self._start:4.0f} s  {text}", file=sys.stderr, flush=True)

    def some(self, many: Number, few: Number) -> Number:
        """Return how many or how long: `few` in a quick run."""
        return few if self.quick else many

    def scratch(self) -> Path:
        """Return a new empty folder; all of them are on one file system."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def project(self, backend: str) -> Path:
        """Return the project with `backend`, all its routes and our pages, baked once."""
        project = self.folder / backend / SLUG
        if not project.exists():
            bake_into(self.folder / backend, Answers(backend, tuple(ROUTES)))
            (project / "src" / SLUG / "routes" / "bench.py").write_text(PAGES)
            command, env = [sys.executable, "-m", f"{SLUG}.prepare"], dict(os.environ)
            env["PYTHONPATH"] = os.pathsep.join([str(project / "src"), str(TEMPLATE)])
            subprocess.run(command, cwd=project, env=env, check=True)
        return project

    @contextmanager
    def process(self, backend: str) -> Iterator[Callable[..., Any]]:
        """Start a process that can import the project; give what calls a function in it."""
        spawn, args = get_context("spawn"), (self.project(backend), self.scratch())
        with ProcessPoolExecutor(1, spawn, _enter, args) as pool:
            yield lambda function, *args: pool.submit(function, *args).result()

    def inside(self, backend: str, function: Callable[..., Iterable[Any]], *args: object) -> Any:
        """Return all that `function` gives in a process of its own."""
        with self.process(backend) as call:
            return call(_all, function, *args)


def _all(function: Callable[..., Iterable[Any]], *args: object) -> list[Any]:
    return list(function(*args))


def _enter(project: Path, counts: Path) -> None:
    """Make `project` importable; it counts as under `make serve`, and no setting of ours counts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run ends this process
    sys.path.insert(0, str(project / "src"))
    os.chdir(project)
    for name in [name for name in os.environ if name.startswith("FLASK_")]:
        del os.environ[name]
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(counts)
