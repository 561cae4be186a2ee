"""The metrics, in the terms of Micrometer and Prometheus, counted from the events of the cache.

They count for all apps of the process. No label holds a key, a path or a user: only names from the
code, and reasons.
"""

import functools
from collections.abc import Callable
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Summary

from ..caching import events
from . import usage, workers

#: One hit in so many is timed: timing each would cost as much as the hit.
TIMED = 32

GETS = Counter("cache_gets", "Look-ups of a cache: hit, miss or stale.", ["cache", "result"])
BYPASSES = Counter(
    "cache_bypasses", "Calls past a cache and values not stored, by reason.", ["cache", "reason"]
)
PUTS = Counter("cache_puts", "Values that were stored.")
CORRUPT = Counter("cache_corrupt", "Stored values that do not verify or cannot be read.")
ERRORS = Counter("cache_errors", "Operations of the backend that failed.")
BREAKER = Gauge(
    "cache_breaker_open", "1 while a failing backend is not used.", multiprocess_mode="livemax"
)
HIT_SECONDS = Summary("cache_hit_seconds", f"Time of a hit, of one in {TIMED}.", ["cache"])
LOAD_SECONDS = Histogram(
    "cache_load_seconds",
    "Time to compute a value after a miss.",
    ["cache"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
)
OPERATION_SECONDS = Histogram(
    "cache_operation_seconds",
    "Time of an operation of the backend, of one in 32 for get and get_many.",
    ["operation"],
    buckets=(0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1),
)


@functools.cache  # finding a metric by its labels costs as much as counting
def _counted(name: str, result: str) -> tuple[Callable[[], None], Callable[[], bool], Any]:
    is_timed = events.one_in(TIMED)
    return GETS.labels(name, result).inc, is_timed, HIT_SECONDS.labels(name).observe


@events.lookup.subscribe
def _lookup(name: str, result: str, seconds: float) -> None:
    count, is_timed, observe = _counted(name, result)
    count()
    if result != "miss" and is_timed():
        observe(seconds)


@events.load.subscribe
def _load(name: str, result: str, seconds: float) -> None:
    LOAD_SECONDS.labels(name).observe(seconds)
    if result == "stored":
        PUTS.inc()
    else:
        BYPASSES.labels(name, result).inc()


@events.operation.subscribe
def _operation(name: str, result: str, seconds: float) -> None:
    OPERATION_SECONDS.labels(name).observe(seconds)
    if result == "error":
        ERRORS.inc()


events.bypass.subscribe(lambda name, reason, _: BYPASSES.labels(name, reason).inc())
events.put.subscribe(lambda *_: PUTS.inc())
events.corrupt.subscribe(lambda *_: CORRUPT.inc())
events.breaker.subscribe(lambda _, state, __: BREAKER.set(state == "open"))


def registry() -> CollectorRegistry:
    """Return all there is to scrape now, over all worker processes."""
    found = CollectorRegistry()
    found.register(workers.slots or REGISTRY)
    found.register(usage.Shared())
    return found
