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

from shop.caching import advice, failsafe, keys, leases, look
from shop.caching.cache import Cache
from shop.caching.codec import Codec
from shop.caching.leases import Adapter, Computations
from shop.monitoring import metrics, workers
from tests.serving import wait_until

#: The operations of a backend for leases, and all others.
LEASING = {"lease", "replace", "store"}
OPERATIONS = failsafe.FALLBACKS.keys() - LEASING
#: The failures in a row that open the breaker.
FAILURES = failsafe.FAILURES
#: The seconds that a lease lasts, and the longest wait of a caller.
LEASE, WAIT = leases.LEASE, leases.WAIT
#: The seconds for which a backend keeps an entry longer than the cache serves it.
SPARE = look.SPARE
#: One look-up in so many is timed.
TIMED = metrics.TIMED


# The backend and the breaker before it.


def guarded(backend: Any, leases: bool = True) -> Any:
    """Wrap a backend as the cache does; `leases` adds leases to a backend that has none."""
    return Codec(Adapter(backend) if leases else backend, "", [])


def put_under(cache: Cache, app: Flask, front: Any) -> Any:
    """Make `cache` use `front`, which `guarded` returned; return the former one."""
    backends = app.extensions["cache"]
    before, backends[cache] = backends.get(cache), front
    if isinstance(before, Codec) and isinstance(front, Codec):
        for name in ("_prefix", "_secrets", "_as_they_are"):
            setattr(front, name, getattr(before, name))
    return before


def behind_breaker(cache: Cache) -> Any:
    """Return the backend behind the breaker, with its leases."""
    return cache.cache.backend


def backend_of(cache: Cache) -> Any:
    """Return the backend itself, unwrapped."""
    backend: Any = cache.cache
    while hasattr(backend, "backend"):
        backend = backend.backend
    return backend


def is_shared(cache: Cache) -> bool:
    """Return whether other processes see the entries."""
    return bool(backend_of(cache).shared)


def is_open(cache: Cache) -> bool:
    """Return whether the breaker is open."""
    front: Any = cache.cache
    return bool(front.is_open)


def wait_until_closed(front: Any) -> None:
    """Wait until the breaker of `front` has closed and has told its subscribers."""
    wait_until(lambda: not front.is_open)
    if front._prober.is_alive():
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
    return dict(cache.computations.running)


def waiting(cache: Cache) -> dict[Any, Any]:
    """Return the look-ups of `cache` that wait for others' computations."""
    return dict(cache.computations.waiting)


def circle_after(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set after how long a wait for another process is taken for a circle."""
    patch.setattr(leases, "CIRCLE", seconds)


def on_wait(patch: pytest.MonkeyPatch, tell: Callable[[], object]) -> None:
    """Call `tell` whenever a caller begins to wait for another one's computation."""
    wait = Computations.wait

    def told(self: Computations, *args: Any) -> float:
        tell()
        return wait(self, *args)

    patch.setattr(Computations, "wait", told)


def wait_for_at_most(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set the longest wait of a caller for another one's computation."""
    patch.setattr(leases, "WAIT", seconds)


def take_over(cache: Cache, key: str, lease: str) -> None:
    """Replace a lease by another one about the same data."""
    assert cache.cache.replace(key, lease, leases.new(lease), leases.LEASE)


def lease_for(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set how long a lease lasts."""
    patch.setattr(leases, "LEASE", seconds)


def local_leases(cache: Cache) -> Any:
    """Return the leases that `guarded` added to the backend."""
    return cache.cache.backend._leases


# Functions.


def forget_functions(patch: pytest.MonkeyPatch) -> None:
    """Forget which functions were decorated, as another process would."""
    patch.setattr(keys, "_first", {})


def forget_warnings(patch: pytest.MonkeyPatch) -> None:
    """Let the cache log again what it logs once for each function."""
    patch.setattr(advice, "_warned", set())


# Single backends.


def tell_time_by(patch: pytest.MonkeyPatch, clock: Callable[[], float]) -> None:
    """Make the backends of this process take `clock` for the time of day."""
    for module in filter(None, map(sys.modules.get, ("shop.caching.backend", "shop.caching.lru"))):
        if hasattr(module, "time"):
            patch.setattr(
                module, "time", SimpleNamespace(**vars(time) | {"time": clock, "monotonic": clock})
            )


def entries(cache: Cache) -> Any:
    """Return the entries of the `memory` backend."""
    return backend_of(cache)._entries


def prefix(cache: Cache) -> str:
    """Return the beginning of every key of `cache` in a shared backend."""
    return str(backend_of(cache)._prefix)


def signs_for_every_key(cache: Cache, key: str, value: Any) -> None:
    """Make a shared backend store `value`, signed for `key`, under every key."""
    codec: Any = cache.cache
    stored = codec._dump("set", key, value)
    codec._dump = lambda *_: stored


def store_instead(patch: pytest.MonkeyPatch, value: Any, signed: bool) -> None:
    """Make every cache store `value` instead of its own values, signed or as a mere pickle."""
    dump = Codec._dump if signed else lambda _, __, ___, value: pickle.dumps(value)
    patch.setattr(Codec, "_dump", lambda self, name, key, _: dump(self, name, key, value))


def client(cache: Cache) -> Any:
    """Return the `redis` backend's client."""
    return backend_of(cache)._client


def let_pass(cache: Cache, seconds: float) -> None:
    """Let time pass on the `redis` backend's server, if there is one; its clock is its own."""
    backend = backend_of(cache)
    for name in backend._client.scan_iter() if hasattr(backend, "_client") else ():
        left = backend._client.pttl(name)
        if name.decode().startswith(backend._prefix) and left > 0:
            backend._client.pexpire(name, left - round(1000 * seconds))


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
    """Return the slot that a new worker process takes."""
    return workers.Slots(folder).own()
