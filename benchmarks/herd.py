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
from .measuring import Row
from .run import Run
from .servers import redis_server, redis_url

CALLERS = 50
#: How long the view takes, in seconds.
VIEW = 0.05
LIFETIME = 60
#: The most seconds that a caller waits for the others to be there.
GATHERING = 60
#: Processes, and the backends that they share.
CASES = [(1, ("memory", "disk", "redis")), (2, ("disk", "redis"))]


def measure(run: Run) -> Iterator[Row]:
    """Return two rows for each backend, in one process and over two."""
    for processes, backends in CASES:
        for backend in backends:
            run.say(f"{CALLERS} callers at once, {backend}, processes: {processes}")
            yield from _rows(run, backend, processes, run.some(5, 2))


def _rows(run: Run, backend: str, processes: int, rounds: int) -> Iterator[Row]:
    """Return the most computations of ours in a round, and the median of stock's."""
    folder, threads = run.scratch(), CALLERS // processes
    with ExitStack() as stack:
        url = ""
        if backend == "redis":
            url = redis_url(stack.enter_context(redis_server(folder)).port)
        together = stack.enter_context(get_context("spawn").Manager()).Barrier(processes)
        calls = [stack.enter_context(run.process(backend)) for _ in range(processes)]
        pool = stack.enter_context(ThreadPoolExecutor(processes))
        args = (count, settings(backend, folder, url), threads, together, rounds)
        counts = [one.result() for one in [pool.submit(call, *args) for call in calls]]
    # What each process counted -> what all of them did, for each herd in its turn.
    herds = [sum(some) for some in zip(*counts, strict=True)]
    if 0 in herds:
        raise AssertionError("a page that was asked for was neither new nor expired")
    who = f"{CALLERS} callers" + (f" of {processes} processes" if processes > 1 else "")
    for turn, page in enumerate(("a new page", "an expired page")):
        name = f"computations for {who} of {page}, `{backend}`"
        ours, stock = herds[turn : 2 * rounds : 2], herds[2 * rounds + turn :: 2]
        run.raw[name] = [ours, stock]
        most = [max(ours)]
        chief = backend == "redis" and processes > 1 and bool(turn)
        yield Row(name, most, "stock", [median_low(stock)], "", "<= 1", absolute=True, chief=chief)


def count(
    configs: tuple[dict[str, Any], dict[str, Any]], threads: int, together: Any, rounds: int
) -> list[int]:
    """Return how often this process computed in each herd, all of ours and then stock's."""
    app, cache = our_app(configs[0])
    return [
        *_herds(app, cache, partial(_expire, cache), threads, together, rounds),
        *_herds(*stock_app(configs[1]), None, threads, together, rounds),
    ]


def _expire(cache: Any) -> None:
    now = cache.clock() + 2 * LIFETIME
    cache.clock = lambda: now


def _herds(
    app: Flask,
    cache: Any,
    expire: Callable[[], None] | None,
    threads: int,
    together: Any,
    rounds: int,
) -> Iterator[int]:
    """In each round let all ask for a new page, and again when it has expired."""
    calls: list[int] = []

    @app.get("/herd/<int:number>")
    @cache.cached(timeout=LIFETIME)  # type: ignore[untyped-decorator]
    def herd(number: int) -> str:
        calls.append(number)
        time.sleep(VIEW)
        return "the page"

    for number in range(rounds):
        for _ in ("new", "expired"):
            _ask(app, f"/herd/{number}", threads, together)
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
