"""Leases: the locks that `look.py` uses so that only one caller computes a missing value.

They are in the backend, for all threads, processes and hosts, and end by themselves if their holder
dies. A lease is also the permission to store: `delete`, `clear` and `set` drop it, so that a value
computed from older data is not stored.
"""

import logging
import os
import secrets
import threading
import time
from contextlib import suppress
from contextvars import ContextVar
from functools import partial, partialmethod
from typing import Any

from flask_caching.backends import NullCache
from flask_caching.backends.base import BaseCache

from .lru import LRUCache

logger = logging.getLogger(__name__)

LEASE = 5.0  # seconds that a lease lasts; it is renewed every third of this time
WAIT = 30.0  # seconds: a caller that waited for so long computes the value itself
CIRCLE = 4.0  # so does one that computes another value, if the lease is another process's
PASS = 5.0  # seconds that callers do not wait after a result that was not stored
#: A lease begins with a hash of the tags' tokens, of this many characters. A lease with another
#: hash was taken before an invalidation; it is ignored.
ABOUT = 16
held: ContextVar[tuple[str, ...]] = ContextVar("held", default=())  # those of this context
ENDED = "ended"  # replaces a lease that has ended; without a hash, so that every caller may take it


def new(about: str, kind: str = "lease") -> str:
    """Return a new lease for a computation from the data called `about`."""
    return f"{about[:ABOUT]}:{kind}:{secrets.token_hex(8)}"


class Computations:
    """The computations of this process: their leases are renewed until they end."""

    def __init__(self) -> None:
        self._pid, self._renewer = os.getpid(), threading.Thread()  # which is not alive
        #: lease -> (backend, key, an event that tells of the end, the caller's thread)
        self.running: dict[str, tuple[Any, str, threading.Event, int]] = {}
        #: look-up -> (the lease it waits for, the caller's own leases, since when)
        self.waiting: dict[Any, tuple[str, set[str], float]] = {}

    def take(self, backend: Any, key: str, about: str) -> tuple[str, bool]:
        """Take the lease on `key`, for a computation from the data called `about`.

        Return it and True if it is ours, renewed while it is in `running`; else the one in the way.
        """
        if self._pid != os.getpid():  # forked: the parent's computations are not ours to renew
            vars(self).update(vars(Computations()))
        lease = new(about)
        held: str | None = backend.ask("lease", key, lease, LEASE)
        if held is not None:
            return held, False
        self.running[lease] = backend, key, threading.Event(), threading.get_ident()
        if not self._renewer.is_alive():  # it does not survive a fork
            renewer = self._renewer = threading.Thread(target=self._renew, daemon=True)
            with suppress(RuntimeError):  # no more threads now: the lease ends by itself
                renewer.start()
        return lease, True

    def wait(self, look: Any, lease: str, blocks: bool) -> float:
        """Return how many seconds to wait for the computation under `lease`; 0 if that is no use.

        The caller has then waited for `WAIT`, or the computation waits for one of the caller's own:
        those of its context and, if it `blocks`, of its thread. Over processes nobody can see such
        a circle; a wait of `CIRCLE` is taken for one.
        """
        me, ours = threading.get_ident(), self.running.copy()
        own = {*held.get(), *(it for it, (*_, thread) in ours.items() if blocks and thread == me)}
        since = self.waiting.get(look, (lease, own, time.monotonic()))[2]
        # The last caller of a circle to come here sees all of it, without a lock, which a forked
        # process could find held by a thread that it does not have.
        self.waiting[look] = lease, own, since
        reached, more, waiting = {lease}, {lease}, self.waiting.copy().values()
        while more:
            more = {on for on, of, _ in waiting if of & reached} - reached
            reached |= more
        waited = time.monotonic() - since
        in_vain = reached & own or waited > (WAIT if lease in ours or not own else CIRCLE)
        return 0 if in_vain else min(max(waited, 0.01), 0.1)

    def rest(self, lease: str, pause: float) -> None:
        """Wait for the end of a computation, for `pause` seconds if it is another process's."""
        if running := self.running.get(lease):
            running[2].wait(0.5)  # in steps, because the lease may have been lost
        else:
            time.sleep(pause)

    def _renew(self) -> None:
        me = threading.current_thread()
        while self._renewer is me:  # not if another caller started one too
            time.sleep(LEASE / 3)
            # Of a lease that has ended since, the backend renews nothing.
            for lease, (backend, key, *_) in self.running.copy().items():
                try:
                    backend.replace(key, lease, lease, LEASE)
                except Exception:
                    logger.exception("A lease could not be renewed: %s", key)
            self._renewer = threading.Thread()  # not alive: the next caller starts one
            if self.running:
                self._renewer = me


class Adapter:
    """Adds leases, which hold within this process, to a backend that has none."""

    def __init__(self, backend: Any) -> None:
        self.backend, self._leases = backend, LRUCache(10_000)
        self.get, self.get_many = backend.get, backend.get_many  # faster than by `__getattr__`

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def lease(self, key: str, lease: str, seconds: float) -> str | None:
        """Take the lease on `key`; None if it is ours now, else the one that is in the way."""
        if isinstance(self.backend, NullCache):  # it keeps no value that one could wait for
            return f"{lease[:ABOUT]}:pass:"
        with self._leases.lock:
            held: str = self._leases.get(key, "")
            if held[:ABOUT] == lease[:ABOUT]:
                return held
            self._leases.set(key, lease, seconds)
            return None

    def replace(self, key: str, lease: str, successor: str, seconds: float) -> bool:
        """Replace the lease on `key`, if it is still `lease`, by `successor`, perhaps the same."""
        with self._leases.lock:
            if holds := self._leases.get(key) == lease:
                self._leases.set(key, successor, seconds)
            return bool(holds)

    def store(self, key: str, value: Any, timeout: int, lease: str) -> bool:
        """Store `value` and end the lease on `key`, if it is still `lease`."""
        with self._leases.lock:
            return self._leases.get(key) == lease and bool(self.set(key, value, timeout))

    def _end(self, operation: str, key: str, *args: Any) -> Any:
        with self._leases.lock:
            done = getattr(self.backend, operation)(key, *args)
            if operation == "delete" or done is not (None if operation == "inc" else False):
                self._leases.delete(key)
            return done

    # As those of the backend; they end the lease on the key.
    set, add, inc, delete = map(partial(partialmethod, _end), ("set", "add", "inc", "delete"))
    set_many = BaseCache.set_many  # by `set`

    def delete_many(self, *keys: str) -> list[str]:
        """Drop keys as `delete` does; return them."""
        for key in keys:
            self.delete(key)
        return list(keys)

    def clear(self) -> bool:
        """Drop everything."""
        self._leases.clear()
        return bool(self.backend.clear())
