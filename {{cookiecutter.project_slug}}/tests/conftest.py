"""Fixtures. `tests/backend.py` has those that start the cache's engine.

`tests/caching` and `tests/monitoring` belong to the template: `cruft update` keeps them current,
and they need no route and no model. All other tests are yours.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from flask import Flask
from flask_caching.backends import SimpleCache

from {{ cookiecutter.project_slug }} import create_app
from {{ cookiecutter.project_slug }}.caching import cache as app_cache
from {{ cookiecutter.project_slug }}.caching import events, failsafe
from {{ cookiecutter.project_slug }}.caching.cache import Cache
from {{ cookiecutter.project_slug }}.settings import load

# Each fixture file beside this one.
pytest_plugins = [
    f"tests.{path.stem}"
    for path in Path(__file__).parent.glob("[!_]*.py")
    if path.stem != "conftest" and not path.stem.startswith("test_")
]

T = TypeVar("T")


class Clock:
    """A clock that stands still until a test moves it."""

    now = 1_800_000_000.0  # 2027-01-15 08:00 UTC

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


class Failing(SimpleCache):
    """A backend that fails with `fault` while it is set, and notes each operation in `asked`."""

    fault: ClassVar[Exception | None] = None
    asked: ClassVar[list[str]] = []
    #: The breaker's changes: "open" or "closed".
    breaker: ClassVar[list[str]] = []


def failing(operation: str) -> Callable[..., Any]:
    """Return the method of `Failing` for an operation."""

    def method(self: Failing, *args: Any, **kwargs: Any) -> Any:
        self.asked.append(operation)
        if self.fault is not None:
            raise self.fault
        return getattr(SimpleCache, operation)(self, *args, **kwargs)

    return method


for operation in ("get", "set", "add", "has", "delete", "clear"):
    setattr(Failing, operation, failing(operation))


def free_port() -> int:
    """Return a port that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool]) -> None:
    """Return as soon as `condition()` is true; fail if it is not within half a minute."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the condition is still false"
        time.sleep(0.005)


def in_threads(count: int, app: Flask, work: Callable[[], T]) -> list[T]:
    """Call `work` in `count` threads at once, each with a context of `app`; return the results."""

    def run(_: int) -> T:
        with app.app_context():
            return work()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


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
        "SECRET_KEY": "a secret key for tests",
        "CACHE_KEY_PREFIX": f"test[*]{tmp_path.name}",
        **backend_settings,
    }


@pytest.fixture
def app(settings: dict[str, Any]) -> Flask:
    """Return this project's app."""
    return create_app(settings)


def bare_app(settings: dict[str, Any]) -> Flask:
    """Return an app with these settings, but without routes and without a cache."""
    bare = Flask("bare", instance_path=os.getcwd())
    bare.config.from_mapping(load({"CACHE_DEFAULT_TIMEOUT": 300, **settings}))
    return bare


@pytest.fixture
def bare(settings: dict[str, Any]) -> Flask:
    """Return an app without routes and without a cache."""
    return bare_app(settings)


@pytest.fixture
def cache(bare: Flask, clock: Clock) -> Iterator[Cache]:
    """Return an empty cache of the app `bare`, whose time `clock` moves."""
    cache = Cache(bare)
    cache.clock = clock
    with bare.app_context():
        yield cache


@pytest.fixture
def failing_type(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the CACHE_TYPE of `Failing`, which works until a test sets its `fault`."""

    def note(name: str, state: str, seconds: float) -> None:
        Failing.breaker.append(state)

    monkeypatch.setattr(failsafe, "PROBE", 0.01)
    monkeypatch.setattr(Failing, "asked", [])
    monkeypatch.setattr(Failing, "breaker", [])
    events.breaker.subscribe(note)
    yield f"{__name__}.Failing"
    Failing.fault = None
    wait_until(lambda: Failing.breaker[-1:] != ["open"])
    events.breaker.unsubscribe(note)
