"""What is counted, in the terms of Micrometer and Prometheus, from the events of the cache.

From its import on it counts for all apps of the process. No label holds a key, a path or a user:
only names that stand in the code, and reasons.
"""

import functools
from collections.abc import Callable
from itertools import cycle
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Summary

from ..caching import events
from . import usage, workers

#: So seldom is a hit timed: timing each would cost as much as it does.
TIMED = 32

GETS = Counter("cache_gets", "Look-ups of a cache: hit, miss or stale.", ["cache", "result"])
BYPASSES = Counter(
    "cache_bypasses", "What went past a cache or could not be stored, and why.", ["cache", "reason"]
)
PUTS = Counter("cache_puts", "Values that were stored.")
CORRUPT = Counter("cache_corrupt", "Stored values that do not verify or cannot be read.")
ERRORS = Counter("cache_errors", "Operations of the backend that failed.")
BREAKER = Gauge(
    "cache_breaker_open",
    "1 while the backend fails and is left alone.",
    multiprocess_mode="livemax",
)
HIT_SECONDS = Summary(
    "cache_hit_seconds", f"The time that one hit in {TIMED} took to be found.", ["cache"]
)
LOAD_SECONDS = Histogram(
    "cache_load_seconds",
    "The time that computing a value took after a miss.",
    ["cache"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
)
OPERATION_SECONDS = Histogram(
    "cache_operation_seconds",
    "The time that an operation of the backend took; one in 32 for get and get_many.",
    ["operation"],
    buckets=(0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1),
)


# Finding the child of a metric by its labels costs as much again as counting: each is found once.


@functools.cache
def _counted(name: str, result: str) -> tuple[Callable[[float], None], Callable[[], bool], Any]:
    # Past the checks of `Counter.inc`, which take as long as counting: every hit pays for them.
    inc = GETS.labels(name, result)._value.inc
    # The first may open a connection: the second is timed.
    is_timed = cycle([False, result != "miss"] + [False] * (TIMED - 2))
    return inc, is_timed.__next__, HIT_SECONDS.labels(name).observe


@functools.cache
def _child(metric: Any, *labels: str) -> Any:
    return metric.labels(*labels)


@events.lookup.subscribe
def _lookup(name: str, result: str, seconds: float) -> None:
    inc, is_timed, observe = _counted(name, result)
    inc(1)
    if is_timed():
        observe(seconds)


@events.load.subscribe
def _load(name: str, result: str, seconds: float) -> None:
    _child(LOAD_SECONDS, name).observe(seconds)
    if result == "stored":
        PUTS.inc()
    else:
        _child(BYPASSES, name, result).inc()


@events.bypass.subscribe
def _bypass(name: str, reason: str, _: float) -> None:
    _child(BYPASSES, name, reason).inc()


@events.put.subscribe
def _put(*_: object) -> None:
    PUTS.inc()


@events.operation.subscribe
def _operation(name: str, result: str, seconds: float) -> None:
    _child(OPERATION_SECONDS, name).observe(seconds)
    if result == "error":
        ERRORS.inc()


@events.breaker.subscribe
def _breaker(_: str, state: str, __: float) -> None:
    BREAKER.set(state == "open")


@events.corrupt.subscribe
def _corrupt(*_: object) -> None:
    CORRUPT.inc()


def registry() -> CollectorRegistry:
    """Return all there is to scrape now, over all worker processes."""
    found = CollectorRegistry()
    if not workers.register(found):
        found.register(REGISTRY)
    usage.register(found)
    return found
