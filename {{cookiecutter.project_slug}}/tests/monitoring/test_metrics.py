"""The metrics: each event of the cache is counted, over all worker processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from flask import Flask, abort
from prometheus_client.parser import text_string_to_metric_families

from {{ cookiecutter.project_slug }}.caching import cache, events

from tests.caching.test_backend import Unreadable
from tests.conftest import Failing, wait_until
from tests.monitoring.conftest import PASSWORD, monitor


def metrics(app: Flask) -> dict[tuple[str, ...], float]:
    """Return each sample that `/metrics` shows, by its name and the values of its labels."""
    text = app.test_client().get("/metrics", auth=("", PASSWORD)).text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
    }


def test_the_requests_of_a_page_are_counted(monitored: Flask) -> None:
    @monitored.route("/counted/<name>", methods=["GET", "POST"])
    @cache.cached()
    def counted(name: str) -> str:
        return name if name != "error" else abort(404)

    puts = metrics(monitored)["cache_puts_total",]
    client = monitored.test_client()
    for path in ("secret", "secret", "secret", "error"):
        client.get(f"/counted/{path}")
    client.post("/counted/secret")
    client.get("/counted/secret", headers={"Authorization": "Bearer x"})
    shown = metrics(monitored)
    assert shown["cache_gets_total", "counted", "miss"] == 2
    assert shown["cache_gets_total", "counted", "hit"] == 2
    assert shown["cache_load_seconds_count", "counted"] == 2
    for reason in ("error", "method", "authorization"):
        assert shown["cache_bypasses_total", "counted", reason] == 1
    assert shown["cache_puts_total",] == puts + 1
    assert "secret" not in str(shown)  # no label holds a path or a key


def test_a_function_is_counted_by_its_name_and_a_key_as_direct(monitored: Flask) -> None:
    def double(n: int) -> int:
        return 2 * n

    before = metrics(monitored).get(("cache_gets_total", "direct", "hit"), 0)
    with monitored.app_context():
        assert [cache.memoize()(double)(2) for _ in range(3)] == [4] * 3
        cache.set("k", "v")
        assert cache.get("k") == "v"
    shown = metrics(monitored)
    assert shown["cache_gets_total", f"{__name__}.{double.__qualname__}", "hit"] == 2
    assert shown["cache_gets_total", "direct", "hit"] == before + 1


def test_failures_and_the_breaker_are_counted(bare: Flask, failing_type: str) -> None:
    app = monitor(bare, CACHE_TYPE=failing_type)
    errors = metrics(app)["cache_errors_total",]
    Failing.fault = TimeoutError("silent")
    with app.app_context():
        cache.get("k")
        shown = metrics(app)
        assert (shown["cache_errors_total",], shown["cache_breaker_open",]) == (errors + 1, 1)
        Failing.fault = None
        wait_until(lambda: metrics(app)["cache_breaker_open",] == 0)


def test_the_size_and_unreadable_values_are_counted(monitored: Flask) -> None:
    before = metrics(monitored)
    with monitored.app_context():
        cache.set_many({"a": 1, "b": Unreadable()})
        cache.get("b")
    shown = metrics(monitored)
    assert shown["cache_size",] >= 2  # a server that tests share holds more
    assert shown["cache_corrupt_total",] == before["cache_corrupt_total",] + 1


def test_a_subscriber_is_told_of_events_until_it_unsubscribes(monitored: Flask) -> None:
    told: list[tuple[str, str]] = []

    def note(name: str, result: str, seconds: float) -> None:
        told.append((name, result))
        raise RuntimeError("a subscriber that fails is logged and harms nothing")

    events.lookup.subscribe(note)
    with monitored.app_context():
        assert cache.get("k") is None
        events.lookup.unsubscribe(note)
        cache.get("k")
    assert told == [("direct", "miss")]


COUNT_AND_SHOW = """
from {{ cookiecutter.project_slug }} import caching, create_app

caching.events.lookup("counted", "hit")
print(create_app().test_cli_runner().invoke(args=["cache", "stats", "--json"]).stdout)
"""


def test_processes_count_together_and_the_end_of_one_loses_nothing(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    environ = os.environ | {f"FLASK_{name}": str(value) for name, value in settings.items()}
    environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    environ["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path / "metrics")
    command = [sys.executable, "-c", COUNT_AND_SHOW]
    for hits in (1, 2):
        done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=True)
        (counted,) = json.loads(done.stdout)["caches"]
        assert (counted["name"], counted["hits"]) == ("counted", hits)
