"""How often a page is computed for all who ask for it at once, beside stock Flask-Caching."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from statistics import median_low
from typing import Any

from flask import Flask
from werkzeug.test import create_environ

from .apps import answer, our_app, settings, stock_app
from .measuring import Row, counted
from .projects import Projects
from .servers import redis_server

CALLERS = 50
#: How long the view takes, in seconds.
VIEW = 0.05
LIFETIME = 60
#: The most seconds that a caller waits for the others to be there.
GATHERING = 60
ROUNDS = 5
#: Processes, and the backends that they share.
CASES = [(1, ("memory", "disk", "redis")), (2, ("disk", "redis"))]


def measure(projects: Projects) -> list[Row]:
    """Return two rows for each backend, in one process and over two."""
    return [
        row
        for processes, backends in CASES
        for backend in backends
        for row in _rows(projects, backend, processes)
    ]


def _rows(projects: Projects, backend: str, processes: int) -> list[Row]:
    """Return the most computations of ours in a round, and the median of stock's."""
    folder, threads = projects.scratch(), CALLERS // processes
    projects.bake(backend)
    with ExitStack() as stack:
        url = stack.enter_context(redis_server(folder)).url if backend == "redis" else ""
        ours, stock = settings(backend, folder, url)
        together = stack.enter_context(get_context("spawn").Manager()).Barrier(processes)
        pool = stack.enter_context(ThreadPoolExecutor(processes))
        work = partial(projects.inside, backend, count, ours, stock, threads, together)
        counts = [one.result() for one in [pool.submit(work) for _ in range(processes)]]
    # What each process counted -> what all of them did, for each herd in its turn.
    herds = [sum(some) for some in zip(*counts, strict=True)]
    if 0 in herds:
        raise AssertionError("a page that was asked for was neither new nor expired")
    our_herds, stock_herds = herds[: 2 * ROUNDS], herds[2 * ROUNDS :]
    who = f"{CALLERS} threads" + (f" of {processes} processes" if processes > 1 else "")
    return [
        counted(
            f"herd: {who}, {page}, {backend} / {stock['CACHE_TYPE']}",
            max(our_herds[turn::2]),
            median_low(stock_herds[turn::2]),
            target=1,
        )
        for turn, page in enumerate(("cold", "expired"))
    ]


def count(ours: dict[str, Any], stock: dict[str, Any], threads: int, together: Any) -> list[int]:
    """Return how often this process computed in each herd, all of ours and then stock's."""
    app, cache = our_app(ours)
    return [
        *_herds(app, cache, partial(_expire, cache), threads, together),
        *_herds(*stock_app(stock), None, threads, together),
    ]


def _expire(cache: Any) -> None:
    now = cache.clock() + 2 * LIFETIME
    cache.clock = lambda: now


def _herds(
    app: Flask, cache: Any, expire: Callable[[], None] | None, threads: int, together: Any
) -> Iterator[int]:
    """In each round let all ask for a new page, and again when it has expired."""
    calls: list[int] = []

    @app.get("/slow/<int:number>")
    @cache.cached(timeout=LIFETIME)  # type: ignore[untyped-decorator]
    def slow(number: int) -> str:
        calls.append(number)
        time.sleep(VIEW)
        return "the page"

    for number in range(ROUNDS):
        for _ in ("cold", "expired"):
            _ask(app, f"/slow/{number}", threads, together)
            yield len(calls)
            calls.clear()
            turn = together.wait(GATHERING)  # nobody still stores what shall be gone
            if expire is not None:
                expire()
            elif turn == 0:
                with app.app_context():
                    cache.clear()  # to stock Flask-Caching, gone and expired are the same


def _ask(app: Flask, path: str, threads: int, together: Any) -> None:
    """Ask for the page with `threads` threads at once, those of the other processes included."""
    environ = create_environ(path, "http://shop.example.com")
    gate = threading.Barrier(threads, action=partial(together.wait, GATHERING))

    def ask(_: int) -> bytes:
        gate.wait(GATHERING)
        return answer(app, environ)

    with ThreadPoolExecutor(threads) as pool:
        if set(pool.map(ask, range(threads))) != {b"the page"}:
            raise AssertionError("what was answered is not the page")
