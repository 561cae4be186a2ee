"""Single flight: of all callers that miss a key at once, one computes and the others wait for it.

The one that computes holds a lease in the backend, so this works over threads, processes and hosts.
A lease is also the permission to store: `delete` and `clear` drop it, and what was computed from
older data is then not stored. So does `set`, whose value is the newer one.
"""

import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flask_caching.backends.nullcache import NullCache

from .lru import LRUCache

logger = logging.getLogger(__name__)

#: How many seconds a lease lasts; it is renewed three times as often, so that it ends only when
#: its holder dies.
LEASE = 5.0
#: How many seconds a caller waits at the most; then it computes for itself.
WAIT = 30.0
#: For how many seconds nobody waits after a result that could not be stored.
PASS = 5
#: The most computations of others that a caller waits for in vain.
PATIENCE = 2
#: A lease begins with this many characters that tell which data it is about.
ABOUT = 16


def new_lease(about: str, kind: str = "lease") -> str:
    """Return the text of a lease for a computation that saw the data called `about`."""
    return f"{about}:{kind}:{secrets.token_hex(8)}"


class SingleFlight:
    """The computations of this process, and who waits for them."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._renewer: threading.Thread | None = None
        # lease -> (backend, key, set when the computation has ended)
        self._running: dict[str, tuple[Any, str, threading.Event]] = {}

    @contextmanager
    def computing(self, backend: Any, key: str, lease: str) -> Iterator[None]:
        """Renew `lease` while the block runs, end it when the block fails, wake who waits."""
        if self._pid != os.getpid():  # forked: what runs in the parent is not ours to renew
            self._start()
        ended = threading.Event()
        with self._lock:
            self._running[lease] = (backend, key, ended)
            if self._renewer is None:
                renewer = threading.Thread(target=self._renew, daemon=True)
                try:
                    renewer.start()
                    self._renewer = renewer
                except RuntimeError:  # no more threads: the lease ends by itself
                    logger.warning("No thread to renew the leases with")
        try:
            yield
        except BaseException:
            backend.succeed(key, lease, "", 0)
            raise
        finally:
            with self._lock:
                self._running.pop(lease, None)  # gone if this process was forked meanwhile
            ended.set()

    def wait_for(self, lease: str, seconds: float, pause: float) -> None:
        """Wait until the computation under `lease` may have ended, at most `seconds`."""
        _, _, ended = self._running.get(lease, (None, None, None))
        if ended is not None:
            ended.wait(min(seconds, 0.5))  # in steps, for the lease may have gone to another
        else:
            time.sleep(min(seconds, pause))

    def _renew(self) -> None:
        while True:
            time.sleep(LEASE / 3)
            with self._lock:
                if not self._running:
                    self._renewer = None
                    return
                running = list(self._running.items())
            for lease, (backend, key, _) in running:  # nothing comes of one that has ended since
                try:
                    backend.succeed(key, lease, lease, LEASE)
                except Exception:
                    logger.exception("A lease could not be renewed: %s", key)


class Turn:
    """One caller's wait for its turn to compute the value of a key."""

    def __init__(self, flights: SingleFlight, key: str) -> None:
        self._flights, self._key = flights, key
        self._deadline = time.monotonic() + WAIT
        self._pause = 0.005
        self._seen: set[str] = set()
        #: Whether the lease is ours, or everybody computes for themselves.
        self.ours = False

    def take(self, backend: Any, about: str, wait: bool) -> str | None:
        """Return the lease to compute under; None: look the key up again.

        It is not ours if the last result could not be stored, or if we have waited long enough.
        Without `wait` None is returned at once.
        """
        lease = new_lease(about)
        held: str | None = backend.lease(self._key, lease, LEASE)
        if held is None:
            self.ours = True
            return lease
        self._seen.add(held)
        left = self._deadline - time.monotonic()
        if ":pass:" in held or len(self._seen) > PATIENCE or left <= 0:
            return held
        if wait:
            self._pause = min(2 * self._pause, 0.1)
            self._flights.wait_for(held, left, self._pause)
        return None


class LocalLeases:
    """Gives a backend that has no leases of its own some that hold within this process."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self._leases = LRUCache(10_000)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the backend's."""
        return getattr(self.backend, name)

    def lease(self, key: str, lease: str, seconds: float) -> str | None:
        """Take the lease on `key`; None if it is ours now, else the one that is in the way.

        One about other data, from before an invalidation, is not in the way.
        """
        if isinstance(self.backend, NullCache):  # nothing is ever found: waiting would be in vain
            return f"{lease[:ABOUT]}:pass:"
        with self._leases.lock:
            held: str | None = self._leases.get(key)
            if held is not None and held[:ABOUT] == lease[:ABOUT]:
                return held
            self._leases.set(key, lease, seconds)
            return None

    def succeed(self, key: str, lease: str, successor: str, seconds: float) -> bool:
        """Replace the lease on `key` if it is still `lease`; with nothing if `successor` is ""."""
        with self._leases.lock:
            if self._leases.get(key) != lease:
                return False
            if successor:
                self._leases.set(key, successor, seconds)
            else:
                self._leases.delete(key)
            return True

    def store(self, key: str, value: Any, timeout: int, lease: str) -> bool:
        """End the lease on `key` and store `value`, if the lease is still `lease`."""
        with self._leases.lock:
            if self._leases.get(key) != lease or not self.backend.set(key, value, timeout):
                return False
            self._leases.delete(key)  # not before: who could not store leaves a mark that says so
            return True

    def set(self, key: str, value: Any, timeout: int) -> bool:
        """Store `value` and end the lease on `key`."""
        with self._leases.lock:
            self._leases.delete(key)
            return bool(self.backend.set(key, value, timeout))

    def set_many(self, mapping: Mapping[str, Any], timeout: int) -> list[str]:
        """Store the values and end the leases on their keys; return the keys."""
        with self._leases.lock:
            for key in mapping:
                self._leases.delete(key)
            stored: list[str] = self.backend.set_many(mapping, timeout)
            return stored

    def delete(self, key: str) -> bool:
        """Drop `key` and the lease on it; True if there was a value."""
        self._leases.delete(key)
        return bool(self.backend.delete(key))

    def delete_many(self, *keys: str) -> list[str]:
        """Drop the keys and the leases on them; return them."""
        for key in keys:
            self._leases.delete(key)
        dropped: list[str] = self.backend.delete_many(*keys)
        return dropped

    def clear(self) -> bool:
        """Drop everything."""
        self._leases.clear()
        return bool(self.backend.clear())
