"""Entries and evictions: counted in each process for memory, else asked of the backend."""

import functools
from collections.abc import Iterable
from typing import Any

from flask import Flask, current_app
from prometheus_client import Counter, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..caching import cache, events
from ..caching.lru import new_lock

_SIZE = "cache_size", "Entries in the cache."
_EVICTIONS = "cache_evictions", "Entries evicted for room."
_lock = new_lock()
_memory: Any = None
_evicted = 0


def backend_of(app: Flask) -> Any:
    """Return the backend of the app's cache, without the layers around it."""
    backend = app.extensions["cache"][cache]
    while hasattr(backend, "backend"):
        backend = backend.backend
    return backend


def init_app(app: Flask) -> None:
    """Count the entries of `app` if they are in memory; of several apps, those of the last one."""
    global _memory, _evicted
    backend = backend_of(app)
    if not getattr(backend, "shared", True):  # Flask-Caching's backends do not count theirs
        with _lock:
            _memory, _evicted = backend, 0
        _count("")
        events.operation.subscribe(_count)


@functools.cache  # not made at import, since a shared backend does not use them
def _metrics() -> tuple[Gauge, Counter]:
    return Gauge(*_SIZE, multiprocess_mode="livesum"), Counter(*_EVICTIONS)


def _count(operation: str, *_: object) -> None:
    global _evicted
    if operation.startswith("get"):
        return
    size, evictions = _metrics()
    with _lock:
        entries, evicted = _memory.usage()
        size.set(entries)
        evictions.inc(evicted - _evicted)
        _evicted = evicted


def collect() -> Iterable[Metric]:
    """Ask a shared backend; yield nothing if it cannot tell or is unavailable."""
    backend = current_app.extensions["cache"][cache]
    ask = getattr(backend, "shared", False) and getattr(backend, "usage", None)
    if found := ask and ask():
        yield GaugeMetricFamily(*_SIZE, found[0])
        yield CounterMetricFamily(*_EVICTIONS, found[1])
