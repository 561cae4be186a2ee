"""The metrics, in the terms of Micrometer and Prometheus, counted from the events of the cache.

They count for all apps of the process. No label holds a key, a path or a user: only names from the
code, and reasons.
"""

import atexit
import functools
import itertools
import operator
import os
import threading
from collections.abc import Callable
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.registry import Collector

from ..caching import events
from ..caching.lru import new_lock
from . import usage, workers

#: One hit in so many is timed, like one `get` of the backend: timing each would cost as much.
TIMED = 32
#: The upper bounds of the histograms, in seconds.
STEPS = (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)

GETS = Counter("cache_gets", "Look-ups of a cache: hit, miss or stale.", ["cache", "result"])
BYPASSES = Counter("cache_bypasses", "Calls not cached, by reason.", ["cache", "reason"])
PUTS = Counter("cache_puts", "Values that were stored.")
CORRUPT = Counter("cache_corrupt", "Stored values that do not verify or cannot be read.")
ERRORS = Counter("cache_errors", "Operations of the backend that failed.")
BREAKER = Gauge("cache_breaker_open", "1 if the breaker is open.", multiprocess_mode="livemax")
HIT_SECONDS = Summary("cache_hit_seconds", f"Time of a hit, of one in {TIMED}.", ["cache"])
LOAD_SECONDS = Histogram("cache_load_seconds", "Time of a miss.", ["cache"], buckets=STEPS[4:])
OPERATION_SECONDS = Histogram(
    "cache_operation_seconds", "Time of an operation.", ["operation"], buckets=STEPS[:-2]
)

_is_timed = functools.cache(lambda name, result: events.one_in(TIMED))
_MOST = 2**62
# (name, result) -> [an iterator that counts the look-ups down, how many of them are in GETS]
_counted: dict[tuple[str, str], list[Any]] = {}
_lock = new_lock()
_timer: threading.Timer | None = None


@functools.cache
def _count(name: str, result: str) -> Callable[[], None]:
    """Return a function that counts a look-up, in one step: a lock would make hits wait."""
    counting: Any = _counted.setdefault((name, result), [itertools.repeat(None, _MOST), 0])[0]
    return counting.__next__  # type: ignore[no-any-return]


@events.lookup.subscribe
def _lookup(name: str, result: str, seconds: float) -> None:
    global _timer
    _count(name, result)()
    if result != "miss" and _is_timed(name, result)():
        HIT_SECONDS.labels(name).observe(seconds)
    if _timer is None:
        _timer = threading.Timer(1.0, fold)
        _timer.daemon = True
        try:
            _timer.start()
        except RuntimeError:  # no more threads now
            _timer = None


def fold(count: bool = True) -> None:
    """Add the look-ups since the last time to the metrics, or only forget them."""
    global _timer
    _timer = None  # a look-up from now on starts another
    with _lock:
        for labels, (counting, folded) in [*_counted.items()]:
            _counted[labels][1] = _MOST - operator.length_hint(counting)
            if count:
                GETS.labels(*labels).inc(_counted[labels][1] - folded)


atexit.register(fold)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: fold(count=False))  # the parent adds its own


@events.load.subscribe
def _load(name: str, result: str, seconds: float) -> None:
    LOAD_SECONDS.labels(name).observe(seconds)
    counter = PUTS if result == "stored" else BYPASSES.labels(name, result)
    counter.inc()


@events.operation.subscribe
def _operation(name: str, result: str, seconds: float) -> None:
    OPERATION_SECONDS.labels(name).observe(seconds)
    if result == "error":
        ERRORS.inc()


events.bypass.subscribe(lambda name, reason, _: BYPASSES.labels(name, reason).inc())
events.put.subscribe(lambda *_: PUTS.inc())
events.corrupt.subscribe(lambda *_: CORRUPT.inc())
events.breaker.subscribe(lambda _, state, __: BREAKER.set(state == "open"))


class _Folding(Collector):
    def collect(self) -> tuple[()]:
        fold()
        return ()


#: All that is counted, over all worker processes; it is read when it is collected.
registry = CollectorRegistry()
registry.register(_Folding())  # first
registry.register(workers.slots or REGISTRY)
registry.register(usage)
