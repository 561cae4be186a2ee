"""The server fails in every way a server can: no request fails, and it is in use again after it."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from redis import ConnectionError, Redis

from shop.caching.cache import Cache
from shop.settings import load
from tests.engine import inside
from tests.engine.fixtures import Clock
from tests.engine.inside import backend_of
from tests.serving import free_port, redis_server, wait_until


class Site:
    """An app with a cached page, in front of a server that can be stopped and started."""

    def __init__(self, folder: Path, settings: dict[str, Any], clock: Clock) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.app = Flask("site")
        self.app.config.from_mapping(load({**settings, "CACHE_REDIS_URL": self.url}))
        self.cache = Cache(self.app)
        self.cache.clock = clock
        self.server = ExitStack()
        self.data = "old"
        for path in ("/page", "/other"):
            cached = self.cache.cached(tags=["page"])(lambda: self.data)
            self.app.add_url_rule(path, path, cached)

    def start(self, *options: str) -> None:
        self.server.enter_context(redis_server(self.folder, self.port, *options))

    def stop(self) -> None:
        self.server.close()  # by SIGKILL

    def get(self, path: str = "/page") -> str:
        response = self.app.test_client().get(path)
        assert response.status_code == 200
        return response.text

    def hit(self) -> bool:
        return "; hit" in self.app.test_client().get("/page").headers["Cache-Status"]

    def breaker(self) -> bool:
        with self.app.app_context():
            return inside.is_open(self.cache)

    def invalidate(self) -> bool:
        with self.app.app_context():
            return self.cache.invalidate("page")


@pytest.fixture(params=[False, True], ids=["production", "debug"])
def site(
    request: pytest.FixtureRequest,
    settings: dict[str, Any],
    tmp_path: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Site]:
    inside.probe_every(monkeypatch, 0.05)
    site = Site(tmp_path, {**settings, "DEBUG": request.param}, clock)
    with site.server:
        yield site


@pytest.fixture
def silent(site: Site) -> Iterator[Callable[[], int]]:
    """Listen at the server's port, accept and say nothing; give the count of connections."""
    connections: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                connections.append(listener.accept()[0])
            except OSError:
                return

    with socket.create_server(("127.0.0.1", site.port)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        yield lambda: len(connections)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in connections:
        connection.close()


def test_a_server_that_was_never_started_fails_nothing_and_is_used_once_it_is(site: Site) -> None:
    for _ in range(10):
        assert site.get() == "old"
    site.start()
    wait_until(lambda: not site.breaker())
    site.get()
    assert site.hit()


def test_a_server_killed_under_load_and_started_again_fails_no_request(site: Site) -> None:
    site.start()
    stop, asked = threading.Event(), [0, 0, 0, 0]

    def load_it(number: int) -> None:
        while not stop.is_set():
            assert site.get() == "old"
            asked[number] += 1

    def some_more() -> None:
        target = sum(asked) + 200
        wait_until(lambda: sum(asked) > target)

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load_it, number) for number in range(4)]
        for change in (some_more, site.stop, some_more, site.start, some_more):
            change()
        wait_until(lambda: not site.breaker())
        some_more()
        stop.set()
        for one in loads:
            one.result()
    site.get()
    assert site.hit()


def test_a_server_that_comes_back_after_many_attempts_is_used(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py's pool counts the connections that it ever made, and makes 100."""
    site.start()
    site.stop()
    with site.app.app_context():
        backend = backend_of(site.cache)
        for _ in range(200):
            with pytest.raises(ConnectionError):
                backend.get("k")
        site.start()
        assert backend.set("k", b"v")
        assert backend.get("k") == b"v"


def test_a_server_started_again_is_used_without_a_failure(site: Site) -> None:
    site.start()
    site.get()
    site.stop()
    site.start()
    with site.app.app_context():
        assert site.cache.set("k", "v")
        assert site.cache.get("k") == "v"


def test_a_silent_server_is_asked_once_and_then_no_more(
    site: Site, silent: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside.probe_every(monkeypatch, 3600)
    with site.app.app_context():
        inside.give_up_after(site.cache, 0.05)
    for _ in range(50):
        assert site.get() == "old"
    assert site.breaker()
    wait_until(lambda: silent() > 0)
    assert silent() == 1


def test_an_invalidation_during_an_outage_is_honoured_after_it(site: Site) -> None:
    with redis_server(site.folder, site.port), Redis(port=site.port) as server:
        site.get()
        assert site.hit()
        server.client_pause(60_000, all=False)  # what writes
        with site.app.app_context():
            inside.give_up_after(site.cache, 0.05)
        site.data = "new"
        assert not site.invalidate()
        assert site.get() == "new"
        server.client_unpause()
        wait_until(lambda: not site.breaker())
        assert site.get() == "new"


def test_a_full_server_that_refuses_to_store_fails_nothing_and_serves_what_it_has(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.start("--maxmemory-policy", "noeviction")
    site.get()
    with Redis(port=site.port) as server:
        server.config_set("maxmemory", "1")
        assert site.hit()
        for _ in range(10):
            assert site.get("/other") == "old"
        assert site.hit()
        assert caplog.text.count("rejects an operation") == 1
        site.data = "new"
        assert site.invalidate()
        assert site.get() == "new"
        server.config_set("maxmemory", "0")
        site.get()
        assert site.hit()
