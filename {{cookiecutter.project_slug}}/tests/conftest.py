"""Fixtures. `backend_settings`, with the real engine behind it, comes from `tests/backend.py`."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from {{ cookiecutter.project_slug }} import create_app
from {{ cookiecutter.project_slug }}.caching import cache as app_cache
from {{ cookiecutter.project_slug }}.caching.cache import Cache
from {{ cookiecutter.project_slug }}.settings import load

# Each fixture file beside this one.
pytest_plugins = [
    f"tests.{path.stem}"
    for path in Path(__file__).parent.glob("[!_]*.py")
    if path.stem != "conftest" and not path.stem.startswith("test_")
]


class Clock:
    """A clock that stands still until a test moves it."""

    now = 1_800_000_000.0  # 2027-01-15 08:00 UTC

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool]) -> None:
    """Return as soon as `condition()` is true; fail if it is not within half a minute."""
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up, "it has not come true"
        time.sleep(0.005)


def wait_until_closed(guarded: Any) -> None:
    """Return when the breaker around a backend is closed and all is told of that."""
    wait_until(lambda: not guarded.is_open)
    if guarded._prober is not None:
        guarded._prober.join(30)


def backend_of(cache: Cache) -> Any:
    """Return the backend itself, without what the cache puts around it."""
    backend: Any = cache.cache
    while hasattr(backend, "backend"):
        backend = backend.backend
    return backend


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("FLASK_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)  # where there is no .env


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock by which the app's cache judges expiry."""
    clock = Clock()
    monkeypatch.setattr(app_cache, "clock", clock)
    return clock


@pytest.fixture
def settings(backend_settings: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Return the settings of an app with an empty cache."""
    return {
        "TESTING": True,
        "SECRET_KEY": "for tests",
        "CACHE_KEY_PREFIX": f"test[*]{tmp_path.name}",
        **backend_settings,
    }


@pytest.fixture
def app(settings: dict[str, Any]) -> Flask:
    """Return this project's app."""
    return create_app(settings)


@pytest.fixture
def bare(settings: dict[str, Any], tmp_path: Path) -> Flask:
    """Return an app without routes or cache, with the project's settings."""
    bare = Flask("bare", instance_path=str(tmp_path))
    bare.config.from_mapping(load({"CACHE_DEFAULT_TIMEOUT": 300, **settings}))
    return bare


@pytest.fixture
def cache(bare: Flask, clock: Clock) -> Iterator[Cache]:
    """Return an empty cache, bound to the app `bare`, whose time `clock` moves."""
    cache = Cache(bare)
    cache.clock = clock
    with bare.app_context():
        yield cache
