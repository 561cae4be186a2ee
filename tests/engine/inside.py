"""The engine from the inside: its private names, which the tests use nowhere else."""

import logging
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from shop.caching import engine, failsafe, single_flight
from shop.caching.cache import Cache
from shop.caching.single_flight import LocalLeases, SingleFlight, Turn, new_lease
from shop.monitoring import metrics, workers
from tests.serving import wait_until

__all__ = ["new_lease"]

#: The operations of a backend for leases, and all others.
LEASING = {"lease", "succeed", "store"}
OPERATIONS = {*failsafe._FALLBACKS} - LEASING
#: The failures in a row that open the breaker.
FAILURES = failsafe.FAILURES
#: The seconds that a lease lasts, and the longest wait of a caller.
LEASE, WAIT = single_flight.LEASE, single_flight.WAIT
#: The seconds for which a backend keeps an entry longer than the cache serves it.
SPARE = engine.SPARE
#: One look-up in so many is timed.
TIMED = metrics.TIMED


# The backend and the breaker before it.


def guarded(backend: Any, leases: bool = True) -> Any:
    """Wrap a backend as the cache does; `leases` adds leases to a backend that has none."""
    return failsafe.FailSafe(LocalLeases(backend) if leases else backend)


def put_under(cache: Cache, app: Flask, front: Any) -> Any:
    """Make `cache` use `front`, which `guarded` returned; return the former one."""
    backends = app.extensions["cache"]
    before, backends[cache] = backends.get(cache), front
    return before


def backend_of(cache: Cache) -> Any:
    """Return the backend itself, unwrapped."""
    backend: Any = cache.cache
    while hasattr(backend, "backend"):
        backend = backend.backend
    return backend


def is_open(cache: Cache) -> bool:
    """Return whether the breaker is open."""
    front: Any = cache.cache
    return bool(front.is_open)


def wait_until_closed(front: Any) -> None:
    """Wait until the breaker of `front` has closed and has told its subscribers."""
    wait_until(lambda: not front.is_open)
    if front._prober is not None:
        front._prober.join(30)


def probe_every(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set how long the breaker pauses between two probes."""
    patch.setattr(failsafe, "PROBE", seconds)


def pause_probes_by(patch: pytest.MonkeyPatch, pause: Callable[[float], object]) -> None:
    """Make the probe call `pause` instead of sleeping."""
    patch.setattr(failsafe, "time", SimpleNamespace(**vars(time) | {"sleep": pause}))


def breaker_log() -> logging.Logger:
    """Return the logger of the breaker."""
    return failsafe.logger


def token_keys(cache: Cache, key: str) -> list[str]:
    """Return the keys of the tokens of an entry's tags."""
    return [token_key for token_key, _ in cache.cache.get(key)[3]]


# Single flight.


def running(cache: Cache) -> dict[str, Any]:
    """Return the computations of `cache` in this process, by their leases."""
    return dict(cache._flights._running)


def on_wait(patch: pytest.MonkeyPatch, tell: Callable[[], object]) -> None:
    """Call `tell` whenever a caller begins to wait for another one's computation."""
    wait_for = SingleFlight.wait_for

    def told(self: SingleFlight, *args: Any) -> None:
        tell()
        wait_for(self, *args)

    patch.setattr(SingleFlight, "wait_for", told)


def turn(cache: Cache, key: str) -> Turn:
    """Return the turn of one more caller that misses a key."""
    return Turn(cache._flights, key)


def lease_for(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set how long a lease lasts."""
    patch.setattr(single_flight, "LEASE", seconds)


def local_leases(cache: Cache) -> Any:
    """Return the leases that `guarded` added to the backend."""
    front: Any = cache.cache
    return front.backend._leases


# Single backends.


def entries(cache: Cache) -> Any:
    """Return the entries of the `memory` backend."""
    return backend_of(cache)._entries


def prefix(cache: Cache) -> str:
    """Return the beginning of every key of `cache` in a shared backend."""
    return str(backend_of(cache)._prefix)


def signs_for_every_key(cache: Cache, key: str, value: Any) -> None:
    """Make a shared backend store `value`, signed for `key`, under every key."""
    backend = backend_of(cache)
    stored = backend._signer.dumps(f"{backend._prefix}{key}", value)
    backend._signer.dumps = lambda key, value: stored


def plant(patch: pytest.MonkeyPatch, value: object, signed: bool) -> None:
    """Make every cache store `value` instead of its own values, signed or not.

    Does nothing where values do not leave the process: nobody can plant one there.
    """
    signing: Any = sys.modules.get("shop.caching.signing")
    if signing:
        sign = signing.Signer.dumps if signed else lambda self, key, value: pickle.dumps(value)
        patch.setattr(signing.Signer, "dumps", lambda self, key, _: sign(self, key, value))


def client(cache: Cache) -> Any:
    """Return the `redis` backend's client."""
    return backend_of(cache)._client


def give_up_after(cache: Cache, seconds: float) -> None:
    """Set how long the `redis` backend's next connections wait for an answer."""
    backend = backend_of(cache)
    backend._client.connection_pool.connection_kwargs["socket_timeout"] = seconds
    backend._idle.clear()


def with_database(backend: Any, work: Callable[[Any], Any]) -> Any:
    """Return `work(connection)`, called with the `disk` backend's database."""
    return backend._use(work)


def write_database(backend: Any, work: Callable[[Any], Any]) -> Any:
    """Return `work(connection)`, called in a write transaction of the `disk` backend."""
    return backend._write(work)


def wait_to_write(patch: pytest.MonkeyPatch, backend: Any, seconds: float) -> None:
    """Set how long the `disk` backend waits while another process writes."""
    patch.setattr(backend, "_wait", seconds)
    backend._use(lambda db: db.execute(f"PRAGMA busy_timeout = {round(1000 * seconds)}"))


# Monitoring.


def slot(folder: Path) -> int:
    """Return the slot of a new worker process."""
    return workers._Process(folder).slot
