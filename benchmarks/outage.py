"""What requests cost while the cache's engine fails, beside stock Flask-Caching."""

import logging
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from flask import Flask
from werkzeug.test import create_environ

from .apps import answer, our_app, settings, stock_app
from .faults import Engine, deleted, killed, locked, silent
from .measuring import Row, lasting
from .projects import Projects
from .servers import redis_server

HEALTHY = 100
FOLLOWING = 200
#: Seconds between two of those that follow: in all long enough that the breaker probes meanwhile.
PACE = 0.01
#: The most by which the first request may take longer, in seconds: it waits for the timeout, 0.25 s
#: by default; the rest is tolerance.
FIRST, WAITING = 0.25, 0.3
#: The most that the others may take: 99 in 100 of them, for any may meet a busy machine.
OTHERS = 0.005


class Case(NamedTuple):
    """A fault, and the most that requests may take during it."""

    name: str
    backend: str
    fault: Callable[[Engine], None]
    first: float
    others: float | None = OTHERS
    #: Whether the apps are made after the fault, and know no healthy engine.
    fresh: bool = False


CASES = [
    Case("redis silent at start", "redis", silent, WAITING, fresh=True),
    Case("redis falls silent", "redis", silent, WAITING),
    Case("redis refuses at start", "redis", killed, FIRST, fresh=True),
    Case("redis killed", "redis", killed, FIRST),
    Case("disk deleted", "disk", deleted, FIRST),
    Case("disk locked", "disk", locked, WAITING),
    Case("disk locked at start", "disk", locked, WAITING, fresh=True),
]


class Site:
    """An app with cached pages."""

    def __init__(self, app: Flask, cache: Any) -> None:
        self.app = app
        app.add_url_rule("/plain", "plain", lambda: "a page")
        app.add_url_rule("/page/<int:number>", "page", cache.cached(60)(lambda number: "a page"))
        self.ask("/plain")  # what is imported with the first request is not the outage's cost

    def ask(self, path: str) -> float:
        """Return the seconds that a request takes. Raises AssertionError for a wrong answer."""
        environ = create_environ(path, "http://shop.example.com")
        start = time.perf_counter()
        page = answer(self.app, environ)
        seconds = time.perf_counter() - start
        if page != b"a page":
            raise AssertionError(page)
        return seconds


class Asked(NamedTuple):
    """What the requests during the outage cost, in seconds."""

    first: float
    others: list[float]


def measure(projects: Projects) -> list[Row]:
    """Return the rows of each case."""
    return [
        row
        for case in CASES
        for row in projects.inside(case.backend, compare, case, projects.scratch())
    ]


def compare(case: Case, folder: Path) -> list[Row]:
    """Ask while all is well, let the fault happen, and ask on."""
    logging.getLogger().addHandler(logging.NullHandler())  # both log it; that is not printed here
    with ExitStack() as stack:
        server = stack.enter_context(redis_server(folder)) if case.backend == "redis" else None
        our_config, stock_config = settings(case.backend, folder, server.url if server else "")
        ours, stock = Site(*our_app(our_config)), Site(*stock_app(stock_config))
        our_usual, stock_usual = _usual(ours), _usual(stock)
        case.fault(Engine(folder, server, stack))
        if case.fresh:
            ours, stock = Site(*our_app(our_config)), Site(*stock_app(stock_config))
        ours_asked = _outage(ours, our_usual)
        stock_asked = None if case.fault is locked else _outage(stock, stock_usual)  # has no locks
    return _rows(case, ours_asked, stock_asked, stock_config["CACHE_TYPE"])


def _usual(site: Site) -> float:
    return statistics.median(site.ask("/page/1") for _ in range(HEALTHY))


def _outage(site: Site, usual: float) -> Asked:
    """Ask for a page that is not stored yet, again and again, but once if that takes seconds."""
    asked = Asked(site.ask("/page/2") - usual, [])
    for _ in range(FOLLOWING if asked.first < 1 else 0):
        time.sleep(PACE)
        asked.others.append(site.ask("/page/2"))
    return asked


def _rows(case: Case, ours: Asked, stock: Asked | None, stock_name: str) -> list[Row]:
    name = f"outage: {case.name}"
    others = stock.others if stock is not None else []
    return [
        lasting(
            f"{name}, first (extra)" + (f" / {stock_name}" if stock else ""),
            ours.first,
            stock.first if stock else None,
            target=case.first,
        ),
        lasting(
            f"{name}, next {FOLLOWING}, 99th percentile",
            _percentile(ours.others),
            _percentile(others) if others else None,
            target=case.others,
        ),
        lasting(
            f"{name}, next {FOLLOWING}, slowest",
            max(ours.others),
            max(others) if others else None,
        ),
    ]


def _percentile(times: list[float]) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[98]
