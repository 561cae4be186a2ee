"""What is counted: the metrics, and the numbers for people that are made of them."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_caching.backends import SimpleCache
from prometheus_client import REGISTRY

from shop import create_app
from shop.caching import cache as app_cache
from shop.caching import events
from shop.monitoring import metrics, report
from shop.monitoring.metrics import registry
from tests.engine import inside
from tests.engine.inside import wait_until_closed
from tests.engine.test_contract import together
from tests.serving import wait_until

pytestmark = pytest.mark.usefixtures("clock")  # so that nothing expires meanwhile

THREADS = 8
LOOKUPS = 25
OPERATIONS = inside.OPERATIONS | inside.LEASING

# The metrics belong to the process, whose other tests count as well: what counts is what they grow.
Labels = tuple[str, ...]


def scrape(app: Flask) -> dict[tuple[str, Labels], float]:
    """Return the value of each sample by its name and the values of its labels."""
    with app.app_context():
        return {
            (sample.name, tuple(sample.labels.values())): sample.value
            for metric in registry.collect()
            for sample in metric.samples
        }


def growth(app: Flask) -> Callable[[str], dict[Labels, float]]:
    """Return what tells by how much each sample of a metric has changed since now."""
    before = scrape(app)

    def grown(metric: str) -> dict[Labels, float]:
        return {
            labels: value - before.get((name, labels), 0)
            for (name, labels), value in scrape(app).items()
            if name == metric and value != before.get((name, labels), 0)
        }

    return grown


class Faulty:
    """A backend that holds nothing, counts how often it is asked and fails until it is healed."""

    errors = (OSError,)
    shared = True
    default_timeout = 300

    def __init__(self, fault: Exception) -> None:
        self.fault: Exception | None = fault
        self.asked = 0
        self.healed = threading.Event()

    def __getattr__(self, name: str) -> Any:
        if name not in OPERATIONS:
            raise AttributeError(name)

        def operation(*args: Any) -> Any:
            self.asked += 1
            if self.fault is not None:
                raise self.fault

        return operation

    def heal(self) -> None:
        self.fault = None
        self.healed.set()


@contextmanager
def faulty(app: Flask, fault: Exception) -> Iterator[Faulty]:
    """Put a backend that fails under the app's cache, probed for the first time when it is healed.

    When the block ends it is, and in use again.
    """
    backend = Faulty(fault)
    guarded = inside.guarded(backend, leases=False)
    at_work = inside.put_under(app_cache, app, guarded)
    with pytest.MonkeyPatch.context() as patch:
        inside.pause_probes_by(patch, lambda _: backend.healed.wait(30))
        try:
            yield backend
        finally:
            backend.heal()
            wait_until_closed(guarded)
            inside.put_under(app_cache, app, at_work)


@pytest.fixture
def page(app: Flask) -> Callable[..., Any]:
    """Return what asks the app for a page that is cached."""

    @app.route("/page/<name>", methods=["GET", "POST"])
    @app_cache.cached(timeout=60, tags=["pages"])
    def page(name: str) -> str:
        return name

    return lambda *args, **kwargs: app.test_client().open("/page/one", *args, **kwargs)


# The metrics.


def test_their_names_and_labels_are_those_of_the_design(app: Flask) -> None:
    events.lookup("names", "hit")
    events.load("names", "no-store")
    events.operation("get", "ok")
    with app.app_context():
        labels = {
            sample.name: set(sample.labels) - {"le"}
            for metric in registry.collect()
            for sample in metric.samples
            if sample.name.startswith("cache_") and not sample.name.endswith("_created")
        }
    times = {"hit": {"cache"}, "load": {"cache"}, "operation": {"operation"}}
    assert labels == {
        "cache_gets_total": {"cache", "result"},
        "cache_bypasses_total": {"cache", "reason"},
        **{f"cache_{total}_total": set() for total in ("puts", "evictions", "corrupt", "errors")},
        "cache_size": set(),
        "cache_breaker_open": set(),
        **{f"cache_{of}_seconds_{part}": times[of] for of in times for part in ("count", "sum")},
        **{f"cache_{of}_seconds_bucket": times[of] for of in ("load", "operation")},
    }


def test_what_becomes_of_the_requests_of_a_page_is_counted(app: Flask, page: Any) -> None:
    grown = growth(app)
    for asked in ({}, {}, {}, {"method": "POST"}, {"headers": {"Authorization": "Bearer x"}}):
        page(**asked)
    assert grown("cache_gets_total") == {("page", "miss"): 1, ("page", "hit"): 2}
    assert grown("cache_load_seconds_count") == {("page",): 1}
    assert grown("cache_puts_total") == {(): 1}
    assert grown("cache_bypasses_total") == {("page", "method"): 1, ("page", "authorization"): 1}


def test_what_is_served_old_is_counted_as_stale(app: Flask) -> None:
    grown = growth(app)
    events.lookup("old", "stale")
    assert grown("cache_gets_total") == {("old", "stale"): 1}


def test_what_is_read_and_stored_by_key_is_counted(app: Flask) -> None:
    grown = growth(app)
    with app.app_context():
        app_cache.get("k")
        app_cache.set("k", "v")
        app_cache.add("k", "not stored")
        app_cache.get_many("k", "nothing")
    assert grown("cache_gets_total") == {("direct", "miss"): 2, ("direct", "hit"): 1}
    assert grown("cache_puts_total") == {(): 1}
    assert grown("cache_operation_seconds_count").get(("set",)) == 1


def test_what_is_computed_and_not_stored_is_counted_with_the_reason(app: Flask) -> None:
    @app.get("/private")
    @app_cache.cached()
    def private() -> Any:
        return "page", {"Cache-Control": "private"}

    grown = growth(app)
    app.test_client().get("/private")
    assert grown("cache_bypasses_total") == {("private", "private"): 1}
    assert grown("cache_load_seconds_count") == {("private",): 1}
    assert grown("cache_puts_total") == {}


def test_no_count_is_lost_when_many_threads_count(app: Flask, page: Any) -> None:
    def ask(_: int) -> None:
        for _ in range(LOOKUPS):
            page()
            with app.app_context():
                app_cache.set("k", "v")
                app_cache.get("k")

    grown = growth(app)
    together(THREADS, ask)
    total = THREADS * LOOKUPS
    assert grown("cache_gets_total") == {
        ("page", "miss"): 1,
        ("page", "hit"): total - 1,
        ("direct", "hit"): total,
    }
    assert grown("cache_puts_total") == {(): total + 1}
    assert grown("cache_operation_seconds_count").get(("set",)) == total


def test_a_second_app_in_the_process_makes_nothing_count_twice(
    app: Flask, settings: dict[str, Any]
) -> None:
    create_app(settings)
    grown = growth(app)
    with app.app_context():
        app_cache.set("k", "v")
    assert grown("cache_puts_total") == {(): 1}


def test_errors_and_the_breaker_of_a_backend_that_fails_are_counted(app: Flask, page: Any) -> None:
    grown = growth(app)
    with faulty(app, ConnectionError("refused")) as backend, app.app_context():
        for _ in range(5):
            app_cache.set("k", "v")
        assert grown("cache_errors_total") == {(): inside.FAILURES}
        assert scrape(app)["cache_breaker_open", ()] == 1
        assert page().text == "one"
        backend.heal()
        wait_until(lambda: scrape(app)["cache_breaker_open", ()] == 0)
    assert grown("cache_puts_total") == {}


def test_a_value_that_cannot_be_read_is_counted(app: Flask) -> None:
    class Unreadable:
        def __reduce__(self) -> Any:
            return int, ("no number",)

    grown = growth(app)
    with app.app_context():
        app_cache.set("k", Unreadable())
        app_cache.get("k")
    assert grown("cache_corrupt_total") == {(): 1}
    assert grown("cache_gets_total") == {("direct", "miss"): 1}


def test_what_is_stored_shows_in_the_size(app: Flask) -> None:
    with app.app_context():
        app_cache.set("k", "v")
    assert scrape(app)["cache_size", ()] >= 1
    assert scrape(app)["cache_evictions_total", ()] >= 0


def test_times_are_put_into_buckets(app: Flask) -> None:
    grown = growth(app)
    for seconds in (0.002, 0.25, 60.0):
        events.load("buckets", "stored", seconds)
        events.operation("buckets", "ok", seconds)
    for metric in ("cache_load_seconds", "cache_operation_seconds"):
        assert grown(f"{metric}_count")["buckets",] == 3
        assert grown(f"{metric}_sum")["buckets",] == pytest.approx(60.252)
        buckets = grown(f"{metric}_bucket")
        for at_most, number in {"0.001": 0, "0.003": 1, "0.3": 2, "+Inf": 3}.items():
            assert buckets.get(("buckets", at_most), 0) == number


def test_hits_are_all_counted_and_seldom_timed(app: Flask) -> None:
    grown = growth(app)
    for _ in range(2 * inside.TIMED):
        events.lookup("seldom", "hit", 0.5)
        events.lookup("seldom", "miss", 0.5)
    gets = {("seldom", "hit"): 2 * inside.TIMED, ("seldom", "miss"): 2 * inside.TIMED}
    assert grown("cache_gets_total") == gets
    assert grown("cache_hit_seconds_count") == {("seldom",): 2}
    assert grown("cache_hit_seconds_sum") == {("seldom",): 1.0}


def test_no_label_holds_a_key_a_path_or_a_user(app: Flask) -> None:
    name = "ada-lovelace"

    @app.get("/person/<name>")
    @app_cache.cached(private_key=lambda: name, tags=[name], key_prefix=name)
    def person(name: str) -> str:
        return name

    for headers in ({}, {"Authorization": name}):
        app.test_client().get(f"/person/{name}?q={name}", headers=headers)
    with app.app_context():
        app_cache.get_or_set(name, lambda: name, tags=[name])
        app_cache.memoize()(sorted)(name)
        app_cache.set(name, threading.Lock())
        app_cache.get(name)
    assert name not in repr(scrape(app))


# The numbers for people.


def cache_of(app: Flask, name: str) -> dict[str, Any]:
    """Return what the report says of one cache."""
    with app.app_context():
        (one,) = [one for one in report.read()["caches"] if one["name"] == name]
    return dict(one)


def test_the_report_says_what_hits_cost_and_save(app: Flask) -> None:
    # The second hit and the second old value are timed: the first may open a connection.
    for result, times in {"hit": (8, 0.25, 8), "stale": (8, 0.75, 8), "miss": (9, 9)}.items():
        for seconds in times:
            events.lookup("a cache", result, seconds)
    for seconds in (1.0, 2.0):
        events.load("a cache", "stored", seconds)
    events.load("a cache", "status 404", 3.0)
    events.bypass("a cache", "session")
    events.bypass("a cache", "session")
    assert cache_of(app, "a cache") == {
        "name": "a cache",
        "hits": 3,
        "stale": 3,
        "misses": 2,
        "hit_rate": 0.75,
        "hit_seconds": 0.5,
        "load_seconds": 2.0,
        "saved_seconds": 6 * (2.0 - 0.5),
        "bypasses": {"session": 2, "status 404": 1},
    }


def test_the_report_makes_nothing_up_where_nothing_is_known(app: Flask) -> None:
    events.bypass("bypassed", "session")
    for _ in range(3):
        events.lookup("hit only", "hit", 0.25)
    events.lookup("missed only", "miss", 0.25)
    events.load("missed only", "stored", 1.0)
    known = ("hit_rate", "hit_seconds", "load_seconds", "saved_seconds")
    for name, expected in {
        "bypassed": [None, None, None, None],
        "hit only": [1.0, 0.25, None, None],
        "missed only": [0.0, None, 1.0, None],
    }.items():
        one = cache_of(app, name)
        assert [one[number] for number in known] == expected


def test_a_cache_that_costs_more_than_it_keeps_saves_nothing_and_no_less(app: Flask) -> None:
    for _ in range(3):
        events.lookup("costly", "hit", 0.5)
    events.load("costly", "stored", 0.25)
    assert cache_of(app, "costly")["saved_seconds"] == 0


def test_the_report_says_what_all_caches_have_in_common(app: Flask) -> None:
    def read() -> dict[str, Any]:
        with app.app_context():
            return report.read()

    before = read()
    events.put("direct", "stored")
    events.load("common", "stored", 0.5)
    events.corrupt("value", "does not verify")
    events.operation("reported", "ok", 0.5)
    events.operation("reported", "error", 1.5)
    after = read()
    grown = {name: after[name] - before[name] for name in ("puts", "corrupt", "errors")}
    assert grown == {"puts": 2, "corrupt": 1, "errors": 1}
    assert after["operations"]["reported"] == {"count": 2, "seconds": 2.0}
    assert after["app"] == app.name
    for state in ("open", "closed"):
        events.breaker("breaker", state)
        assert read()["breaker_open"] is (state == "open")


def test_a_worker_does_not_count_in_files_that_another_user_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "counter_0.db").touch()
    # Not by its mode, since root may write every file.
    monkeypatch.setattr(os, "access", lambda path, mode: "counter_0.db" not in str(path))
    assert inside.slot(tmp_path) == 1


class Silent(SimpleCache):
    """A backend that processes share and that does not tell its size."""

    shared = True


def test_a_shared_backend_that_does_not_tell_its_size_is_scraped(settings: dict[str, Any]) -> None:
    app = create_app(settings | {"CACHE_TYPE": f"{__name__}.Silent"})
    assert scrape(app)


def test_look_ups_are_in_the_metrics_a_second_later_without_a_scrape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other workers are scraped, and not asked."""
    timers = list[Any]()

    class Timer:
        def __init__(self, seconds: float, call: Callable[[], None]) -> None:
            self.seconds, self.call, self.started = seconds, call, 0
            timers.append(self)

        def start(self) -> None:
            self.started += 1

    def counted() -> float:
        labels = {"cache": "folded", "result": "hit"}
        return REGISTRY.get_sample_value("cache_gets_total", labels) or 0

    metrics.fold()
    monkeypatch.setattr(threading, "Timer", Timer)
    for number in (1, 2):
        for _ in range(10):
            events.lookup("folded", "hit", 0)
        assert [(it.seconds, it.started) for it in timers] == [(1, 1)] * number
        timers[-1].call()
        assert counted() == 10 * number
        timers[-1].call()
        assert counted() == 10 * number


def test_look_ups_are_counted_once_a_thread_can_be_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[int] = []

    class Timer:
        def __init__(self, *_: object) -> None:
            started.append(1)

        def start(self) -> None:
            if len(started) < 3:
                raise RuntimeError("can't start new thread")

    metrics.fold()
    monkeypatch.setattr(threading, "Timer", Timer)
    for _ in range(5):
        events.lookup("folded", "hit", 0)
    assert len(started) == 3
    metrics.fold()


FORKS = """
import os
from shop.caching import events
from shop.monitoring import metrics
for _ in range(3):
    events.lookup("forked", "hit", 0)
if child := os.fork():
    os.waitpid(child, 0)
events.lookup("forked", "hit", 0)
metrics.fold()
if not child:
    os._exit(0)
print(metrics.registry.get_sample_value("cache_gets_total", {"cache": "forked", "result": "hit"}))
"""


def test_a_forked_process_counts_no_look_up_of_its_parent(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    command = [sys.executable, "-c", FORKS]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == "5.0\n"
