"""The fixtures; `backend_settings` and its real engine come from the folder of the backend."""

import functools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_caching.backends import SimpleCache

from shop import create_app
from shop.caching import cache as app_cache
from shop.caching.cache import Cache
from shop.settings import load
from tests.engine import inside


class Clock:
    """A clock that stands still until a test moves it."""

    now = 1_800_000_000.0  # 2027-01-15 08:00 UTC

    def __call__(self) -> float:
        """Return the time in seconds, as `time.time` does."""
        return self.now

    def forward(self, seconds: float) -> None:
        """Move the clock."""
        self.now += seconds


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("FLASK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FLASK_DATABASE_URL", f"sqlite:///{tmp_path}/app.sqlite3")
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
    """Return the project's app."""
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


class Moody(SimpleCache):
    """A backend that counts its calls and fails at will."""

    errors = (OSError,)

    def __init__(self) -> None:
        super().__init__(threshold=1000)
        self.fault: Exception | None = None
        self.calls: list[str] = []
        self.asked = threading.Event()

    def answer(self, name: str, *args: Any) -> Any:
        self.calls.append(name)
        self.asked.set()
        if self.fault is not None:
            raise self.fault
        return getattr(SimpleCache, name)(self, *args)


for operation in inside.OPERATIONS:
    setattr(Moody, operation, functools.partialmethod(Moody.answer, operation))


@pytest.fixture
def moody(cache: Cache, bare: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[Moody]:
    """Put a backend that fails at will under `cache`."""
    inside.probe_every(monkeypatch, 0.01)
    backend = Moody()
    inside.put_under(cache, bare, inside.guarded(backend))
    yield backend
    backend.fault = None
    inside.wait_until_closed(cache.cache)
