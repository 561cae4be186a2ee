"""A pytest plugin for the tests of Flask-Caching and cachelib: they get our `Cache`.

`tests/stock_suites.py` runs it with a baked project on the path, and by these variables:
STOCK_BACKEND, the backend that takes the place of SimpleCache, "stock" for SimpleCache itself;
STOCK_SETTINGS, the settings of that backend; STOCK_OUTCOMES, the file for the outcomes.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import cachelib.simple
import flask
import flask_caching.backends
import pytest
import redis

shop: Any = importlib.import_module("shop.caching.cache")
backend: Any = importlib.import_module("shop.caching.backend")
load: Any = importlib.import_module("shop.settings").load
BACKEND = os.environ["STOCK_BACKEND"]
SECRET_KEY = "a key for the tests of others"
SETTINGS: dict[str, Any] = json.loads(os.environ["STOCK_SETTINGS"])
#: Each test's outcome and error, and the tests that made a `Cache`.
outcomes: dict[str, tuple[str, str]] = {}
about_cache: set[str] = set()


class Cache(shop.Cache):  # type: ignore[misc]
    """Our `Cache`, which notes the tests that make one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        about_cache.add(os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0])
        super().__init__(*args, **kwargs)

    def init_app(self, app: Any, config: Any = None) -> None:
        """Bind to an app that has a key, as ours must have one."""
        app.config["SECRET_KEY"] = app.config["SECRET_KEY"] or SECRET_KEY
        super().init_app(app, config)


class Backend(backend.Backend):  # type: ignore[misc]
    """The project's backend, with all of its settings."""

    @classmethod
    def factory(cls, app: Any, config: Any, *args: Any, **kwargs: Any) -> Any:
        """Make the backend in the folder or on the server of this run."""
        config = load({"SECRET_KEY": SECRET_KEY} | SETTINGS) | config | SETTINGS
        return super().factory(app, config, *args, **kwargs)


class Face:
    """Takes the place of cachelib's SimpleCache: it is the `cache.cache` of an app."""

    def __new__(cls, threshold: int = 500, **_: Any) -> Any:
        """Return the face of an empty cache."""
        app = flask.Flask("app")
        settings = {"CACHE_TYPE": "SimpleCache", "CACHE_THRESHOLD": threshold}
        app.config |= {"TESTING": True, **settings}
        return Cache(app).cache


flask_caching.Cache = Cache  # type: ignore[misc]
if BACKEND != "stock":
    Backend.__name__ = "SimpleCache"  # which is part of the names of tests
    flask_caching.backends.SimpleCache = Backend  # type: ignore[misc]
if Path("tests/test_base_cache.py").exists():  # of cachelib
    vars(cachelib)["SimpleCache"] = Face
#: The suites start servers by pytest-xprocess, unless one listens already.
sys.modules["xprocess"] = xprocess = ModuleType("xprocess")
vars(xprocess)["ProcessStarter"] = object


@pytest.fixture(scope="session", name="xprocess")
def _xprocess() -> None:
    """Take the place of pytest-xprocess's fixture."""


@pytest.fixture(autouse=True)
def _new_cache(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Empty the backend, and move its time by what the tests patch or sleep."""
    slept = [0.0]

    def sleep(seconds: float) -> None:
        if seconds < 1:  # between threads
            return real_sleep(seconds)
        slept[0] += seconds
        for key in server.scan_iter() if server else ():
            if (left := server.pttl(key)) > 0:
                server.pexpire(key, max(0, left - round(1000 * seconds)))

    real_sleep, server = time.sleep, cast(Any, None)
    if "CACHE_DIR" in SETTINGS:
        SETTINGS["CACHE_DIR"] = str(tmp_path / "cache")
    if url := SETTINGS.get("CACHE_REDIS_URL"):
        server = redis.Redis.from_url(url)
        server.flushall()
    now, real_time = vars(cachelib.simple), time.time  # Flask-Caching's fixture `clock` patches it
    monkeypatch.setitem(now, "time", lambda: real_time() + slept[0])
    monkeypatch.setattr(time, "time", lambda: now["time"]())
    for name in {"common", request.module.__name__} & sys.modules.keys():
        if hasattr(sys.modules[name], "sleep"):
            monkeypatch.setattr(sys.modules[name], "sleep", sleep)
    yield
    if server:
        server.close()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note an outcome; an error outside of the test counts as a failure."""
    if report.outcome != "passed" or report.when == "call":
        lines = report.longreprtext.splitlines()
        error = " ".join(line[1:].strip() for line in lines if line.startswith("E  "))[:200]
        outcomes[report.nodeid] = report.outcome, error


def pytest_sessionfinish() -> None:
    """Write what the tests did."""
    found = {test: [one, test in about_cache, error] for test, (one, error) in outcomes.items()}
    Path(os.environ["STOCK_OUTCOMES"]).write_text(json.dumps(found))
