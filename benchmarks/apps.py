"""The two apps that are measured: the generated one, and one under stock Flask-Caching."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from flask import Flask
from flask_caching import Cache

#: Where a busy machine may be slow and how long a caller waits is not what is measured.
PATIENT = {"CACHE_REDIS_TIMEOUT": 30.0}


def settings(backend: str, folder: Path, url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return our settings for `backend`, and those of its stock equivalent."""
    if backend == "disk":
        return (
            {"CACHE_DIR": str(folder / "ours")},
            {"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(folder / "stock")},
        )
    if backend == "redis":
        return {"CACHE_REDIS_URL": url}, {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": url}
    return {}, {"CACHE_TYPE": "SimpleCache"}


def our_app(config: dict[str, Any]) -> tuple[Flask, Any]:
    """Return the generated app and its cache."""
    app = import_module("shop").create_app({"SECRET_KEY": "a secret", "TESTING": True, **config})
    return app, import_module("shop.caching").cache


def stock_app(config: dict[str, Any]) -> tuple[Flask, Any]:
    """Return an app under stock Flask-Caching, and its cache."""
    app = Flask("stock")
    app.config.from_mapping(config, SECRET_KEY="a secret", TESTING=True)
    return app, Cache(app)


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
