"""The apps that are measured: the generated one, one under stock Flask-Caching, and a bare one.

The project is imported when it is used, in a process that finds it.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

from flask import Blueprint, Flask
from flask_caching import Cache

#: How long the slow page takes, in seconds.
SLOW = 2.0
#: Where a busy machine may be slow and how long a caller waits is not what is measured.
PATIENT = {"CACHE_REDIS_TIMEOUT": 30.0}


def settings(backend: str, folder: Path, url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return our settings for `backend`, and those of its stock equivalent."""
    stock = {"memory": "SimpleCache", "disk": "FileSystemCache", "redis": "RedisCache"}[backend]
    ours, theirs = (
        {"CACHE_DIR": str(folder / whose), "CACHE_REDIS_URL": url} for whose in ("ours", "stock")
    )
    return ours, theirs | {"CACHE_TYPE": stock}


def more_pages(cache: Any) -> Blueprint:
    """Return the pages that the project does not have, for each app the same."""
    posts = import_module("shop.routes.recent_posts").recent_posts.uncached
    bp = Blueprint("bench", __name__)

    def large() -> str:
        return "x" * 100_000

    def slow(number: int) -> str:
        time.sleep(SLOW)
        return "slow"

    def herd(number: int) -> str:
        time.sleep(0.2)
        return uuid4().hex  # another one for each computation

    bp.add_url_rule("/uncached", "uncached", posts)
    bp.add_url_rule("/untagged", "untagged", cache.cached(timeout=300)(posts))
    bp.add_url_rule("/large", "large", cache.cached(timeout=300)(large))
    bp.add_url_rule("/slow/<int:number>", "slow", cache.cached(timeout=300)(slow))
    bp.add_url_rule("/herd/<int:number>", "herd", cache.cached(timeout=1)(herd))
    bp.add_url_rule("/plain", "plain", lambda: "x" * 1_000)
    return bp


def our_app(config: dict[str, Any] | None = None) -> tuple[Flask, Any]:
    """Return the generated app and its cache."""
    return import_module("shop").create_app(config), import_module("shop.caching").cache


def unmonitored(config: dict[str, Any] | None = None) -> Flask:
    """Return the generated app without its monitoring."""
    nothing: Any = ModuleType("shop.monitoring")
    nothing.init_app = lambda app: None
    sys.modules["shop.monitoring"] = nothing
    return import_module("shop").create_app(config)  # type: ignore[no-any-return]


def stock_app(config: dict[str, Any] | None = None) -> tuple[Flask, Any]:
    """Return an app with the same views under stock Flask-Caching, and its cache."""
    app = Flask("shop")  # that it has the same database
    app.config.from_mapping({"DATABASE_URL": "sqlite:///app.sqlite3", **(config or {})})
    app.config.from_prefixed_env("STOCK")
    cache = Cache(app)
    app.register_blueprint(import_module("shop.models").bp)
    for path, name, timeout in (("/", "hello", 60), ("/recent_posts", "recent_posts", 300)):
        view = getattr(import_module(f"shop.routes.{name}"), name).uncached
        app.add_url_rule(path, name, cache.cached(timeout=timeout)(view))
    app.register_blueprint(more_pages(cache))
    return app, cache


def stock() -> Flask:
    """Make the app under stock Flask-Caching for a server; STOCK_ variables configure it."""
    return stock_app()[0]


def bare() -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    """Make a WSGI app that only looks the recorded answers up, in the file BENCH_ANSWERS."""
    recorded = json.loads(Path(os.environ["BENCH_ANSWERS"]).read_text())
    answers = {
        (path, conditional): (status, [(name, value) for name, value in headers], body.encode())
        for path, conditional, status, headers, body in recorded
    }

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        found = answers[environ["PATH_INFO"], "HTTP_IF_NONE_MATCH" in environ]
        start_response(*found[:2])
        return [found[2]]

    return app


def answer(app: Flask, environ: dict[str, Any]) -> bytes:
    """Send a request to `app` as a server does and return the body of the answer."""
    chunks = app(environ.copy(), _start)
    try:
        return b"".join(chunks)
    finally:
        getattr(chunks, "close", bool)()


def _start(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
    if status != "200 OK":
        raise AssertionError(status)
    return lambda data: None
