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

#: Sets in a round: so many that each has its share of what happens rarely.
SETS, GETS = 50_000, 20_000
#: The trace: requests for so many keys by Zipf's law, to a cache of a tenth of them.
KEYS, CAPACITY = 10_000, 1_000
TIMEOUTS = (60, 300, 86400)
#: Requests a second.
PACE = 10_000


class Textbook:
    """An LRU as articles have it: without expiry, counts and threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[str, object] = OrderedDict()

    def get(self, key: str) -> object:
        """Return a value, None on a miss."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key]

    def set(self, key: str, value: object) -> None:
        """Store a value."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)


class Locked:
    """The LRU of cachetools, under a lock as its documentation asks for."""

    def __init__(self, capacity: int) -> None:
        self._cache: cachetools.LRUCache[str, object] = cachetools.LRUCache(capacity)
        self._lock = threading.Lock()

    def get(self, key: str) -> object:
        """Return a value, None on a miss."""
        with self._lock:
            return self._cache.get(key)

    def set(self, key: str, value: object) -> None:
        """Store a value."""
        with self._lock:
            self._cache[key] = value


def measure(run: Run) -> Iterator[Row]:
    """Return the rows of sets and gets by size, of bytes, and of the hit ratio."""
    sizes = (100, 10_000, 100_000) if run.quick else (100, 10_000, 1_000_000)
    run.say(f"LRUCache and others with {', '.join(f'{size:,}' for size in sizes)} entries")
    yield from run.inside("memory", compare, sizes, run.some(7, 2))
    run.say("the hit ratio on a trace")
    yield from run.inside("memory", replay, run.some(200_000, 30_000))


def compare(sizes: tuple[int, ...], rounds: int) -> list[Row]:
    """Fill each cache, then get entries that are there, then set fresh keys."""
    kinds: dict[str, Callable[[int], Any]] = {
        "ours": import_module("shop.caching").LRUCache,
        "the textbook's": Textbook,
        "cachetools": Locked,
        "SimpleCache": SimpleCache,
    }
    gets: dict[tuple[str, int], Round] = {}
    sets: dict[tuple[str, int], Round] = {}
    for (kind, make), size in itertools.product(kinds.items(), sizes):
        cache, keys = make(size), fresh_keys(size)
        seconds_each(partial(_set, cache.set), keys)
        keys = random.Random(size).choices(keys, k=GETS)
        if None in map(cache.get, keys):
            raise AssertionError(f"{kind} does not hold {size} entries")
        count = SETS if kind != "SimpleCache" else max(1, 20_000 // size)
        gets[kind, size] = partial(seconds_each, cache.get, keys)
        sets[kind, size] = partial(_set_fresh, cache.set, count)
    gc.freeze()  # so that it is quick to collect garbage before each round
    rows, largest = [], sizes[-1]
    for what, contenders in (("get", gets), ("set, full", sets)):
        # SimpleCache not in between: sorting all it holds leaves the processor's caches cold.
        names = sorted(contenders, key=lambda name: name[0] == "SimpleCache")
        fast = [name for name in names if name[0] != "SimpleCache"]
        slow = names[len(fast) :]
        found = {
            name: figures
            for group in (fast, slow)
            for name, figures in zip(
                group, taken(*(contenders[name] for name in group), rounds=rounds), strict=True
            )
        }
        for size, kind in itertools.product(sizes, list(kinds)[1:]):
            name, chief = f"`LRUCache`, {size:,} entries: {what}", what != "get" and size == largest
            target = "<= 1" if chief and kind == "cachetools" else ""
            chief = chief and kind != "the textbook's"
            others = found[kind, size]
            rows.append(Row(name, found["ours", size], kind, others, target=target, chief=chief))
        name, small = f"`LRUCache`, {largest:,} entries: {what}", found["ours", sizes[0]]
        target, beside = "<= 3" if what != "get" else "", f"ours, {sizes[0]}"
        large = found["ours", largest]
        rows.append(Row(name, large, beside, small, target=target, chief=bool(target)))
    held = {kind: [_bytes_an_entry(make)] for kind, make in kinds.items()}
    for kind in list(kinds)[1:]:
        rows.append(Row("`LRUCache`: bytes an entry", held["ours"], kind, held[kind], "bytes"))
    return rows


def _set(put: Callable[[str, int], object], key: str) -> None:
    put(key, 1)


def _set_fresh(put: Callable[[str, int], object], count: int) -> float:
    return seconds_each(partial(_set, put), fresh_keys(count))


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


def replay(length: int) -> list[Row]:
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
    name, ours_hits = "`LRUCache`: hit ratio on a trace, Zipf 1.0", [hits[0] / length * 100]
    others = {"SimpleCache": hits[1], "the best possible (Belady)": _belady(trace)}
    return [
        Row(
            name,
            ours_hits,
            beside,
            [count / length * 100],
            "%",
            target=">= 67" if beside == "SimpleCache" else "",
            absolute=True,
            chief=beside != "SimpleCache",
        )
        for beside, count in others.items()
    ]


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
