"""A hit of a cached page, through the whole app, beside stock Flask-Caching in the same process."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from flask import Flask
from flask_caching import Cache
from werkzeug.test import create_environ

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
        url = stack.enter_context(redis_server(folder)) if backend == "redis" else ""
        ours, stock = settings(backend, folder, url)
        our_hit, stock_hit = alternate(
            _hits(*our_app({**ours, "CACHE_FAST_PATH": fast_path})),
            _hits(*stock_app(stock)),
            rounds=ROUNDS,
        )
    name = stock["CACHE_TYPE"]
    return beside(f"page hit, {backend} / {name}", our_hit, stock_hit, target=0.85)


def settings(backend: str, folder: Path, url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return our settings for `backend`, and those of its stock equivalent."""
    if backend == "disk":
        return (
            {"CACHE_DIR": str(folder / "ours")},
            {"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(folder / "stock")},
        )
    if backend == "redis":
        return (
            # A busy machine may be slow; what is measured is not how long a caller waits.
            {"CACHE_REDIS_URL": url, "CACHE_REDIS_TIMEOUT": 30.0},
            {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": url},
        )
    return {}, {"CACHE_TYPE": "SimpleCache"}


def our_app(config: dict[str, Any]) -> tuple[Flask, list[int]]:
    """Return the generated app with the view of the posts, and the list of the view's calls."""
    app = import_module("shop").create_app({"SECRET_KEY": "a secret", "TESTING": True, **config})
    return app, _add_posts(app, import_module("shop.caching").cache)


def stock_app(config: dict[str, Any]) -> tuple[Flask, list[int]]:
    """Return an app under stock Flask-Caching with the same view, and that view's calls."""
    app = Flask("stock")
    app.config.from_mapping(config, SECRET_KEY="a secret", TESTING=True)
    return app, _add_posts(app, Cache(app))


def _add_posts(app: Flask, cache: Any) -> list[int]:
    calls: list[int] = []

    @app.get("/posts")
    @cache.cached(timeout=60)  # type: ignore[untyped-decorator]
    def posts() -> dict[str, Any]:
        calls.append(1)
        return {"posts": POSTS}

    return calls


def _hits(app: Flask, calls: list[int]) -> Round:
    """Store the page; the round asks for it again."""
    environ = create_environ("/posts", "http://shop.example.com")
    ask: Callable[[Any], bytes] = partial(answer, app)
    page = ask(environ)

    def hits() -> float:
        seconds = seconds_each(ask, [environ] * HITS)
        if len(calls) != 1 or ask(environ) != page:
            raise AssertionError("what was measured is not a hit")
        return seconds

    return hits


def answer(app: Flask, environ: dict[str, Any]) -> bytes:
    """Send a request to `app` as a server does and return the body of the answer."""
    chunks = app(environ.copy(), _start)
    try:
        return b"".join(chunks)
    finally:
        chunks.close()  # type: ignore[attr-defined]


def _start(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
    if status != "200 OK":
        raise AssertionError(status)
    return lambda data: None
