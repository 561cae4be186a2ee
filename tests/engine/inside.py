"""What the tests know of the inside of the engine: each private name of it stands here alone."""

import logging
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from shop.caching import failsafe, leases, look
from shop.caching.cache import Cache
from shop.caching.codec import Codec
from shop.caching.leases import Adapter, Computations
from shop.monitoring import metrics, workers
from tests.serving import wait_until

#: The operations of a backend, those that are about leases apart.
LEASING = {"lease", "replace", "store"}
OPERATIONS = failsafe.FALLBACKS.keys() - LEASING
#: So many failures in a row open the breaker.
FAILURES = failsafe.FAILURES
#: The seconds that a lease lasts, and that a caller waits at the most.
LEASE, WAIT = leases.LEASE, leases.WAIT
#: The seconds that the backend keeps an entry after the cache has stopped serving it.
SPARE = look.SPARE
#: Of so many look-ups one is timed.
TIMED = metrics.TIMED


# The backend and the breaker before it.


def guarded(backend: Any, leases: bool = True) -> Any:
    """Return what the cache puts before a backend; without `leases` it has its own, or none."""
    return Codec(failsafe.FailSafe(Adapter(backend) if leases else backend), "", [])


def put_under(cache: Cache, app: Flask, front: Any) -> Any:
    """Make `cache` use what `guarded` gave; return what it used before."""
    backends = app.extensions["cache"]
    before, backends[cache] = backends.get(cache), front
    if isinstance(before, Codec) and isinstance(front, Codec):
        for name in ("_prefix", "_secrets", "_as_they_are"):
            setattr(front, name, getattr(before, name))
    return before


def behind_breaker(cache: Cache) -> Any:
    """Return the backend that the breaker stands before, with its leases."""
    return cache.cache.backend.backend


def backend_of(cache: Cache) -> Any:
    """Return the backend itself, without what the cache puts before it."""
    backend: Any = cache.cache
    while hasattr(backend, "backend"):
        backend = backend.backend
    return backend


def is_open(cache: Cache) -> bool:
    """Tell whether the breaker before the backend is open."""
    front: Any = cache.cache
    return bool(front.is_open)


def wait_until_closed(front: Any) -> None:
    """Return when the breaker of what `guarded` gave is closed and all is told of that."""
    wait_until(lambda: not front.is_open)
    if front._prober.is_alive():
        front._prober.join(30)


def probe_every(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set how long the breaker pauses between two probes."""
    patch.setattr(failsafe, "PROBE", seconds)


def pause_probes_by(patch: pytest.MonkeyPatch, pause: Callable[[float], object]) -> None:
    """Let the probe call `pause` instead of sleeping."""
    patch.setattr(failsafe, "time", SimpleNamespace(**vars(time) | {"sleep": pause}))


def breaker_log() -> logging.Logger:
    """Return the log to which the breaker writes when it opens and closes."""
    return failsafe.logger


# Single flight.


def running(cache: Cache) -> dict[str, Any]:
    """Return the computations of this process that `cache` knows of, by their leases."""
    return dict(cache.computations._running)


def on_wait(patch: pytest.MonkeyPatch, tell: Callable[[], object]) -> None:
    """Call `tell` each time that a caller begins to wait for the computation of another."""
    wait_for = Computations.wait_for

    def told(self: Computations, *args: Any) -> None:
        tell()
        wait_for(self, *args)

    patch.setattr(Computations, "wait_for", told)


def take_over(cache: Cache, key: str, lease: str) -> None:
    """Replace a lease by another one about the same data."""
    assert cache.cache.replace(key, lease, leases.new(lease), leases.LEASE)


def lease_for(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set how long a lease lasts that nobody renews."""
    patch.setattr(leases, "LEASE", seconds)


def local_leases(cache: Cache) -> Any:
    """Return the leases of a backend that has none of its own."""
    adapter: Any = cache.cache.backend.backend
    return adapter._leases


# Of single backends.


def entries(cache: Cache) -> Any:
    """Return all that the `memory` backend holds."""
    return backend_of(cache)._entries


def prefix(cache: Cache) -> str:
    """Return the beginning of every key of `cache` in a shared backend."""
    return str(backend_of(cache)._prefix)


def signs_for_every_key(cache: Cache, key: str, value: Any) -> None:
    """Make a shared backend store, for whatever it is given, what it signs for `key`."""
    codec: Any = cache.cache
    stored = codec._dump("set", key, value)
    codec._dump = lambda *_: stored


def store_instead(patch: pytest.MonkeyPatch, value: Any, signed: bool) -> None:
    """Make every cache store `value`, whatever it is given, signed or as a mere pickle."""
    dump = Codec._dump if signed else lambda _, __, ___, value: pickle.dumps(value)
    patch.setattr(Codec, "_dump", lambda self, name, key, _: dump(self, name, key, value))


def client(cache: Cache) -> Any:
    """Return the client of `redis`."""
    return backend_of(cache)._client


def give_up_after(cache: Cache, seconds: float) -> None:
    """Set how long connections of `redis` wait for an answer, those from now on."""
    backend = backend_of(cache)
    backend._client.connection_pool.connection_kwargs["socket_timeout"] = seconds
    backend._idle.clear()


def with_database(backend: Any, work: Callable[[Any], Any]) -> Any:
    """Call `work` with the database of `disk`, as a reader does; return what it gives."""
    return backend._use(work)


def write_database(backend: Any, work: Callable[[Any], Any]) -> Any:
    """Call `work` with the database of `disk`, in a transaction that writes."""
    return backend._write(work)


def wait_to_write(patch: pytest.MonkeyPatch, backend: Any, seconds: float) -> None:
    """Set how long `disk` waits while another process writes."""
    patch.setattr(backend, "_wait", seconds)
    backend._use(lambda db: db.execute(f"PRAGMA busy_timeout = {round(1000 * seconds)}"))


# Monitoring.


def slot(folder: Path) -> int:
    """Return the slot that a new worker process takes."""
    return workers.Slots(folder).own()
