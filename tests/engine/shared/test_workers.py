"""Single flight over the worker processes of a real server."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from shop.caching.cache import Cache
from shop.settings import load
from tests.engine import inside
from tests.serving import free_port, wait_until

CALLERS = 20


def create_app() -> Flask:
    """Make the app that the workers serve: a page that takes until the test lets it go on."""
    folder = Path(os.environ["TEST_FOLDER"])
    app = Flask("workers")
    app.config.from_mapping(load(json.loads((folder / "settings").read_text())))
    cache = Cache(app)
    inside.lease_for(pytest.MonkeyPatch(), 3.0)

    def note(what: str) -> None:
        with (folder / what).open("a") as file:
            file.write(f"{os.getpid()}\n")

    app.before_request(lambda: note("arrived"))

    @app.get("/page")
    @cache.cached()
    def page() -> str:
        note("computing")
        wait_until((folder / "go on").exists)
        return f"page of {os.getpid()}"

    return app


class Servers:
    """Two servers with a worker each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = [free_port(), free_port()]
        self.pool = ThreadPoolExecutor(CALLERS)

    def pids(self, what: str) -> list[int]:
        """Return the worker in which each of these happened, in their order."""
        path = self.folder / what
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    def get(self, number: int) -> str:
        with closing(HTTPConnection("127.0.0.1", self.ports[number % 2], timeout=60)) as client:
            client.request("GET", "/page", headers={"Host": "shop.example.com"})
            return client.getresponse().read().decode()

    def ask(self) -> list[Future[str]]:
        """Ask both for the page; return when every request has arrived."""
        asked = [self.pool.submit(self.get, number) for number in range(CALLERS)]
        wait_until(lambda: len(self.pids("arrived")) == CALLERS)
        wait_until(lambda: bool(self.pids("computing")))
        return asked


@pytest.fixture
def servers(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Servers]:
    (tmp_path / "settings").write_text(json.dumps(settings))
    monkeypatch.setenv("TEST_FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    servers = Servers(tmp_path)
    with ExitStack() as stack:
        for port in servers.ports:
            command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--factory"]
            command += [f"{__name__}:create_app", "--host", "127.0.0.1", "--port", str(port)]
            command += ["--blocking-threads", str(CALLERS), "--respawn-failed-workers"]
            process = stack.enter_context(subprocess.Popen(command, start_new_session=True))
            # With its workers, and at once: it may be about to start another one.
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
        stack.callback(servers.pool.shutdown)
        stack.callback((tmp_path / "go on").touch)
        wait_until(lambda: all(map(is_served, servers.ports)))
        yield servers


def is_served(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    return False


def test_one_worker_computes_for_all(servers: Servers) -> None:
    asked = servers.ask()
    (servers.folder / "go on").touch()
    assert len({one.result() for one in asked}) == 1
    assert len(servers.pids("computing")) == 1


def test_when_the_worker_that_computes_is_killed_another_takes_over(servers: Servers) -> None:
    asked = servers.ask()
    (computing,) = servers.pids("computing")
    os.kill(computing, signal.SIGKILL)
    wait_until(lambda: len(servers.pids("computing")) == 2)
    (servers.folder / "go on").touch()
    _, successor = servers.pids("computing")
    assert successor != computing
    pages = [one.result() for one in asked if one.exception() is None]
    assert pages == [f"page of {successor}"] * (CALLERS // 2)
    assert len(servers.pids("computing")) == 2
