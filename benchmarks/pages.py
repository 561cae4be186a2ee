"""A hit of a cached page, through the whole app, beside stock Flask-Caching in the same process."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.test import create_environ

from .apps import PATIENT, answer, our_app, settings, stock_app
from .measuring import Round, Row, alternate, beside, seconds_each
from .projects import Projects
from .servers import redis_server

HITS = 300
ROUNDS = 31
BACKENDS = ("memory", "disk", "redis")
# No two hold the same string, which a pickle would store but once.
POSTS = [
    {
        "id": number,
        "title": f"Post number {number}",
        "body": f"What happened on day {number}, and why it mattered to those who were there. " * 4,
        "author": f"Author {number}",
        "created": f"2026-11-{number:02}T12:00:00+00:00",
    }
    for number in range(1, 11)
]


def measure(projects: Projects) -> list[Row]:
    """Return a row for each backend."""
    return [projects.inside(backend, compare, backend, projects.scratch()) for backend in BACKENDS]


def compare(backend: str, folder: Path, fast_path: bool = False) -> Row:
    """Ask both apps for the same page and return the row of a hit."""
    with ExitStack() as stack:
        url = stack.enter_context(redis_server(folder)).url if backend == "redis" else ""
        ours, stock = settings(backend, folder, url)
        our_hit, stock_hit = alternate(
            _hits(*our_app({**ours, **PATIENT, "CACHE_FAST_PATH": fast_path})),
            _hits(*stock_app(stock)),
            rounds=ROUNDS,
        )
    name = stock["CACHE_TYPE"]
    return beside(f"page hit, {backend} / {name}", our_hit, stock_hit, target=0.85)


def _hits(app: Flask, cache: Any) -> Round:
    """Store a page of posts; the round asks for it again."""
    calls: list[int] = []

    @app.get("/posts")
    @cache.cached(timeout=60)  # type: ignore[untyped-decorator]
    def posts() -> dict[str, Any]:
        calls.append(1)
        return {"posts": POSTS}

    environ = create_environ("/posts", "http://shop.example.com")
    ask: Callable[[Any], bytes] = partial(answer, app)
    page = ask(environ)

    def hits() -> float:
        seconds = seconds_each(ask, [environ] * HITS)
        if len(calls) != 1 or ask(environ) != page:
            raise AssertionError("what was measured is not a hit")
        return seconds

    return hits
