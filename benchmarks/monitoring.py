"""What monitoring costs: a hit with and without it, and a scrape of several worker processes."""

import gc
import os
import shutil
import socket
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.test import create_environ

from .apps import PATIENT, answer, our_app, settings
from .measuring import Round, Row, lasting, rates, seconds_each
from .pages import POSTS
from .projects import Projects
from .servers import granian, redis_server

BACKENDS = ("memory", "disk", "redis")
#: Of these hits one is timed, so a round has its share. Short rounds, which nothing interrupts.
HITS = 32
ROUNDS = 500
#: So many connections ask the server at once, so that it never waits for the client.
CONNECTIONS = 4
SERVED_HITS = 96
SERVED_ROUNDS = 500
WORKERS = 8
RESTARTS = 50
SCRAPES = 30
#: The most seconds that a worker waits for the others.
GATHERING = 60
CACHES = tuple(f"shop.views.cache_{number}" for number in range(10))
OPERATIONS = (
    *("get", "get_many", "has", "set", "set_many", "add", "inc"),
    *("delete", "delete_many", "clear", "lease", "succeed", "store"),
)
PASSWORD = "a password"


def measure(projects: Projects) -> list[Row]:
    """Return the rows of a hit, over HTTP and in process, and those of a scrape."""
    return [
        _served_hits(projects),
        *(projects.inside(it, compare, it, projects.scratch()) for it in BACKENDS),
        *_scrapes(projects),
    ]


def create_app() -> Flask:
    """Make the app that Granian serves: a page of posts, and what turns monitoring on and off."""
    app = _posts_app({})
    turn = _switch()

    @app.get("/monitored/<int:on>")
    def monitored(on: int) -> str:
        turn(bool(on))
        return "done"

    return app


def compare(backend: str, folder: Path) -> Row:
    """Ask the app in this process for the same page, and return the row of a hit."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder / "metrics")
    with ExitStack() as stack:
        url = stack.enter_context(redis_server(folder)).url if backend == "redis" else ""
        app = _posts_app({**settings(backend, folder, url)[0], **PATIENT})
        environ, turn = create_environ("/posts", "http://shop.example.com"), _switch()
        ask: Callable[[Any], bytes] = partial(answer, app)
        ask(environ)  # from now on a hit
        gc.freeze()  # so that it is quick to collect garbage before each round

        def hits(on: bool) -> float:
            turn(on)
            return seconds_each(ask, [environ] * HITS)

        name = f"page hit in process, {backend}, monitored / not"
        return rates(name, partial(hits, True), partial(hits, False), ROUNDS)


def _posts_app(config: dict[str, Any]) -> Flask:
    app, cache = our_app(config)
    app.add_url_rule("/posts", "posts", cache.cached(3600)(lambda: {"posts": POSTS}))
    return app


def _switch() -> Callable[[bool], None]:
    """Return what subscribes monitoring to the events of the cache, or ends that."""
    module = import_module("shop.caching.events")
    events = [it for it in vars(module).values() if isinstance(it, module.Event)]
    subscribed = [(event, subscriber) for event in events for subscriber in event._subscribers]
    if not subscribed:
        raise AssertionError("nothing is monitored")

    def turn(on: bool) -> None:
        for event, subscriber in subscribed:
            (event.subscribe if on else event.unsubscribe)(subscriber)

    return turn


def _served_hits(projects: Projects) -> Row:
    """Return the row of a hit over HTTP, from one worker that is served as by `make serve`."""
    with ExitStack() as stack:
        project, counts = projects.bake("memory"), str(projects.scratch())
        factory = f"{__name__}:create_app"
        served = granian(project, factory, threads=16, PROMETHEUS_MULTIPROC_DIR=counts)
        port = stack.enter_context(served)
        connections = [stack.enter_context(_Connection(port)) for _ in range(CONNECTIONS)]
        hits = partial(_ask, connections)
        hits(True)  # once, so that all are hits from now on
        name = f"page hit over HTTP, memory, {CONNECTIONS} clients, monitored / not"
        on, off = partial(hits, True), partial(hits, False)
        return rates(name, on, off, SERVED_ROUNDS, target=0.95)


def _ask(connections: list["_Connection"], on: bool) -> float:
    """Ask for the page by all connections at once and return the seconds that a hit took."""
    connections[0].send(f"/monitored/{on:d}")
    connections[0].receive()
    start = time.perf_counter()
    for _ in range(SERVED_HITS // CONNECTIONS):
        for connection in connections:
            if connection.waits:
                connection.receive()
            connection.send("/posts")
    for connection in connections:
        connection.receive()
    return (time.perf_counter() - start) / SERVED_HITS


class _Connection:
    """A client whose own work is small beside the server's, or that would be measured."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=GATHERING)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        #: Whether an answer is due.
        self.waits = False

    def __enter__(self) -> "_Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, path: str) -> None:
        """Send a request."""
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n".encode())
        self.waits = True

    def receive(self) -> None:
        """Read the whole answer. Raises AssertionError if it is not 200."""
        found = b""
        while b"\r\n\r\n" not in found:
            found += self._more()
        head, _, body = found.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise AssertionError(head)
        missing = int(head.partition(b"content-length: ")[2].split()[0]) - len(body)
        while missing > 0:
            missing -= len(self._more())
        self.waits = False

    def _more(self) -> bytes:
        chunk = self._socket.recv(65536)
        if not chunk:
            raise AssertionError("the server has closed the connection")
        return chunk


def _scrapes(projects: Projects) -> list[Row]:
    """Let all workers count, and one of them answer; the rows of that are its."""
    projects.bake("disk")
    folder = projects.scratch()
    with get_context("spawn").Manager() as manager, ThreadPoolExecutor(WORKERS) as pool:
        together = manager.Barrier(WORKERS)
        work = partial(projects.inside, "disk", scrape, folder, together)
        return [row for one in [pool.submit(work) for _ in range(WORKERS)] for row in one.result()]


def scrape(folder: Path, together: Any) -> list[Row]:
    """Be one of the workers; return the rows if this is the one that is scraped."""
    metrics = folder / "metrics"
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
    app, _ = our_app({"CACHE_DIR": str(folder / "cache"), "MONITORING_PASSWORD": PASSWORD})
    _count()
    turn = together.wait(GATHERING)
    rows = _scraped(app, metrics) if turn == 0 else []
    together.wait(GATHERING)  # all are alive while it is measured
    return rows


def _count() -> None:
    """Let everything happen that is counted by name."""
    events = import_module("shop.caching.events")
    for name in CACHES:
        for result in ("hit", "miss", "stale"):
            events.lookup(name, result, 0.0001)
        for result in ("stored", "error"):
            events.load(name, result, 0.01)
        for reason in ("method", "session"):
            events.bypass(name, reason)
    for operation in OPERATIONS:
        events.operation(operation, "ok", 0.0001)


def _scraped(app: Flask, metrics: Path) -> list[Row]:
    """Return the row of a scrape, and one of what it would be with files by process id.

    That is how prometheus_client names them: those of a worker that is replaced stay.
    """
    auth = ("monitoring", PASSWORD)
    ask = partial(answer, app, create_environ("/metrics", "http://shop.example.com", auth=auth))
    seconds = _seconds_a_scrape(ask)
    text = ask().decode()
    if f'cache_gets_total{{cache="{CACHES[0]}",result="hit"}} {WORKERS}.0' not in text:
        raise AssertionError(text)
    lines, own = text.count("\n"), [p for p in metrics.glob("*_0.db") if "gauge" not in p.name]
    for path in own:
        for number in range(RESTARTS):
            shutil.copy(path, path.with_name(path.name.replace("_0.", f"_{1000 + number}.")))
    name = f"scrape, {WORKERS} workers"
    return [
        lasting(f"{name}, {lines} lines", seconds, target=0.05),
        lasting(f"{name}, {RESTARTS} restarts, slots / ids", seconds, _seconds_a_scrape(ask)),
    ]


def _seconds_a_scrape(ask: Callable[[], bytes]) -> float:
    scraped: Round = partial(seconds_each, lambda _: ask(), [None])
    return statistics.median(scraped() for _ in range(SCRAPES))
