"""`LRUCache` beside others in a process: its cost by size, bytes an entry, and its hit ratio."""

import gc
import heapq
import itertools
import random
import threading
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

import cachetools
from flask_caching.backends.simplecache import SimpleCache

from .measuring import Round, Row, fresh_keys, seconds_each, taken
from .run import Run

#: The targets are about this.
CHIEF = "set, full", 1_000_000
#: Sets in a round: so many that each has its share of what happens rarely.
SETS, GETS = 50_000, 20_000
#: The trace: requests for so many keys by Zipf's law, to a cache of a tenth of them.
KEYS, CAPACITY = 10_000, 1_000
TIMEOUTS = (60, 300, 86400)
#: Requests a second.
PACE = 10_000


class _Textbook:
    """An LRU as articles have it: without expiry, counts and threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[str, object] = OrderedDict()

    def get(self, key: str) -> object:
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key]

    def set(self, key: str, value: object) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)


class _Locked:
    """The LRU of cachetools, under a lock as its documentation asks for."""

    def __init__(self, capacity: int) -> None:
        self._cache: cachetools.LRUCache[str, object] = cachetools.LRUCache(capacity)
        self._lock = threading.Lock()

    def get(self, key: str) -> object:
        with self._lock:
            return self._cache.get(key)

    def set(self, key: str, value: object) -> None:
        with self._lock:
            self._cache[key] = value


def measure(run: Run) -> Iterator[Row]:
    """Return the rows of sets and gets by size, of bytes, and of the hit ratio."""
    sizes = (100, 10_000, 100_000) if run.quick else (100, 10_000, 1_000_000)
    run.say(f"LRUCache and others with {', '.join(f'{size:,}' for size in sizes)} entries")
    yield from run.inside("memory", compare, sizes, run.some(7, 2))
    run.say("the hit ratio on a trace")
    yield from run.inside("memory", replay, run.some(200_000, 30_000))


def compare(sizes: tuple[int, ...], rounds: int) -> Iterator[Row]:
    """Fill each cache, then get entries that are there, then set fresh keys."""
    kinds: dict[str, Callable[[int], Any]] = {
        "ours": import_module("shop.caching").LRUCache,
        "the textbook's": _Textbook,
        "cachetools": _Locked,
        "SimpleCache": SimpleCache,
    }
    gets: dict[tuple[str, int], Round] = {}
    sets: dict[tuple[str, int], Round] = {}
    for (kind, make), size in itertools.product(kinds.items(), sizes):
        put, get, keys = partial(_set, (cache := make(size)).set), cache.get, fresh_keys(size + 1)
        seconds_each(put, keys)  # it is full, and has dropped one
        some = random.Random(size).choices(keys[1:], k=GETS)
        if None in map(get, some):
            raise AssertionError(f"{kind} does not hold {size} entries")
        count = SETS if kind != "SimpleCache" else max(1, 20_000 // size)
        gets[kind, size] = partial(seconds_each, get, some)
        sets[kind, size] = partial(_set_fresh, put, count)
    gc.freeze()  # so that it is quick to collect garbage before each round
    largest = sizes[-1]
    for what, turns in (("get", gets), ("set, full", sets)):
        found = dict(zip(turns, taken(*turns.values(), rounds=rounds), strict=True))
        for kind, size in turns:
            ours, beside = found["ours", size], (kind, found[kind, size])
            if (kind, size) == ("ours", largest):
                beside = f"ours, {sizes[0]} entries", found["ours", sizes[0]]
            elif kind == "ours":
                continue
            targets = {"ours": "<= 3", "cachetools": "<= 1"} if (what, size) == CHIEF else {}
            target, name = targets.get(kind, ""), f"`LRUCache`, {size:,} entries: {what}"
            yield Row(name, ours, *beside, target=target, chief=bool(target))
    held = {kind: [_bytes_an_entry(make)] for kind, make in kinds.items()}
    for kind in list(kinds)[1:]:
        yield Row("`LRUCache`: bytes an entry", held["ours"], kind, held[kind], "bytes")


def _set(put: Callable[[str, int], object], key: str) -> None:
    put(key, 1)


def _set_fresh(put: Callable[[str], object], count: int) -> float:
    return seconds_each(put, fresh_keys(count))


def _bytes_an_entry(make: Callable[[int], Any], count: int = 10_000) -> float:
    """Return the memory of an entry, without its key and value."""
    keys = fresh_keys(count)
    tracemalloc.start()
    cache = make(count)
    for key in keys:
        cache.set(key, 1)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held / count


def replay(length: int) -> Iterator[Row]:
    """Let caches answer one trace, in which keys have different timeouts, and compare hits."""
    rng = random.Random(13)
    weights = list(itertools.accumulate(1 / rank for rank in range(1, KEYS + 1)))
    trace = rng.choices(range(KEYS), cum_weights=weights, k=length)
    timeouts = [rng.choice(TIMEOUTS) for _ in range(KEYS)]
    now = 0.0
    ours = import_module("shop.caching").LRUCache(CAPACITY, clock=lambda: now)
    stock, hits = SimpleCache(CAPACITY), [0, 0]
    for key in trace:
        now += 1 / PACE
        for turn, cache in enumerate((ours, stock)):
            if cache.get(key) is None:
                cache.set(key, 1, timeouts[key])
            else:
                hits[turn] += 1
    name, ours_hits = "`LRUCache`: hits on a trace by Zipf's law", [hits[0] / length * 100]
    for beside, count in (("SimpleCache", hits[1]), ("the best possible", _belady(trace))):
        others, target = [count / length * 100], ">= 67" * (beside != "SimpleCache")
        yield Row(name, ours_hits, beside, others, "%", target, absolute=True, chief=bool(target))


def _belady(trace: list[int]) -> int:
    """Return the hits of a cache that always drops the key that is needed last."""
    never, following = len(trace), [0] * len(trace)
    seen: dict[int, int] = {}
    for at in reversed(range(len(trace))):
        following[at] = seen.get(trace[at], never)
        seen[trace[at]] = at
    kept: dict[int, int] = {}  # when each key is needed next
    last: list[tuple[int, int]] = []
    hits = 0
    for key, needed in zip(trace, following, strict=True):
        hits += key in kept
        kept[key] = needed
        heapq.heappush(last, (-needed, key))
        while len(kept) > CAPACITY:
            when, drop = heapq.heappop(last)
            if kept.get(drop) == -when:  # else it was needed since, and stands there again
                del kept[drop]
    return hits
