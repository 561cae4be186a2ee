"""LRUCache: a small in-process cache that drops the least recently used entry."""

import math
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from itertools import repeat
from operator import length_hint, methodcaller
from types import EllipsisType
from typing import Any, NamedTuple

Clock = Callable[[], float]
_MOST = 2**62
_ABSENT = (None, 0.0, -math.inf)  # an entry that is not there: it has always been expired


def new_lock() -> Any:
    """Return a reentrant lock, which a forked process has only if its own thread held it."""
    _locks.add(lock := threading.RLock())
    return lock


_locks: weakref.WeakSet[Any] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(  # as Python's logging does: the other threads are not in the child
        after_in_child=lambda: [it._at_fork_reinit() for it in _locks if not it._is_owned()]
    )


class Stats(NamedTuple):
    """Counts since the cache was made."""

    hits: int
    misses: int
    evictions: int


class LRUCache:
    """A bounded mapping with optional expiry, safe under threads; every operation is O(1).

    `capacity` is the largest number of entries, `ttl` how many seconds each lives, None for ever,
    and `clock` gives the time in seconds. Raises ValueError for a capacity below 1 or a ttl that is
    not above 0. An expired entry takes up its place until it is looked up or evicted.
    """

    def __init__(self, capacity: int, ttl: float | None = None, *, clock: Clock | None = None):
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, for example 128, not {capacity!r}")
        self.capacity = capacity
        self._ttl, self._clock = _checked(ttl), clock or partial(methodcaller("monotonic"), time)
        self.lock = new_lock()  #: Hold it to make several operations one.
        # key -> (value, when it was stored, for how long), the most recently used last
        self._entries: OrderedDict[Hashable, tuple[Any, float, float]] = OrderedDict()
        # Iterators count down in one step, which `+= 1` would need the lock for.
        self._hits, self._misses = repeat(None, _MOST), repeat(None, _MOST)
        self._evictions = 0

    def get(self, key: Hashable, default: Any = None) -> Any:
        """Return the value of `key` and make it the most recently used, or `default` on a miss."""
        entry = self._entries.get(key, _ABSENT)
        value, made, lifetime = entry
        if -1 < self._clock() - made < lifetime:  # not if the clock was wrong when it was made
            next(self._hits)
            # A hit waits for nobody: while another thread is at work, the order stays as it is.
            if self.lock.acquire(blocking=False):
                try:
                    if key in self._entries:
                        self._entries.move_to_end(key)
                finally:
                    self.lock.release()
            return value
        next(self._misses)
        with self.lock:
            if self._entries.get(key) is entry:  # not one that was set meanwhile
                del self._entries[key]
        return default

    def set(self, key: Hashable, value: Any, ttl: float | EllipsisType | None = ...) -> None:
        """Store `value`, None included, for `ttl` seconds: None for ever, left out the cache's."""
        lifetime = self._ttl if isinstance(ttl, EllipsisType) else _checked(ttl)
        with self.lock:
            self._entries[key] = value, self._clock(), lifetime
            self._entries.move_to_end(key)
            if len(self._entries) > self.capacity:
                self._entries.popitem(last=False)
                self._evictions += 1

    def delete(self, key: Hashable) -> bool:
        """Drop `key`; True if it was there and had not expired."""
        with self.lock:
            return self._is_live(self._entries.pop(key, _ABSENT))

    def clear(self) -> None:
        """Drop every entry; the counts stay."""
        with self.lock:
            self._entries.clear()

    def __contains__(self, key: Hashable) -> bool:
        """Tell whether `key` would be a hit; counts nothing and leaves the order as it is."""
        return self._is_live(self._entries.get(key, _ABSENT))

    def _is_live(self, entry: tuple[Any, float, float]) -> bool:
        return -1 < self._clock() - entry[1] < entry[2]

    def __len__(self) -> int:
        """Count the entries held, the expired ones that are not yet dropped included."""
        return len(self._entries)

    def stats(self) -> Stats:
        """Return the hits, misses and evictions since the cache was made."""
        with self.lock:
            left = length_hint(self._hits), length_hint(self._misses)
            return Stats(_MOST - left[0], _MOST - left[1], self._evictions)


def _checked(ttl: float | None) -> float:
    if ttl is not None and not ttl > 0:  # `not >` refuses NaN too
        raise ValueError(f"ttl must be above 0 seconds, for example 60, or None, not {ttl!r}")
    return math.inf if ttl is None else ttl
