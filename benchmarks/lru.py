"""Whether `LRUCache.set` costs the same however much it holds, beside SimpleCache's."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from flask_caching.backends.simplecache import SimpleCache

from .measuring import Round, Row, alternate, beside, fresh_keys, seconds_each
from .projects import Projects

SMALL, LARGE = 100, 100_000
#: Sets in a round of ours. They turn the large one over twice, so that each round has its share of
#: what happens rarely (the dict is rebuilt), and a first touch of cold memory weighs little.
SETS = 2 * LARGE
ROUNDS = 11
#: How many times as much a set may cost in the large one.
TARGET = 1.5


def measure(projects: Projects) -> list[Row]:
    """Return a row for each capacity, and one for what the large one costs of the small one."""
    return projects.inside("memory", compare)


def compare() -> list[Row]:
    """Fill each cache, then set the same number of fresh keys in the small and the large one."""
    lru_cache = import_module("shop.caching.lru").LRUCache
    ours_small, ours_large = alternate(
        _full(SMALL, lru_cache(SMALL).set, SETS),
        _full(LARGE, lru_cache(LARGE).set, SETS),
        rounds=ROUNDS,
    )
    # Not in between: sorting all that it holds leaves the processor's caches cold.
    stock_small, stock_large = alternate(
        _full(SMALL, SimpleCache(SMALL).set, 1_000),
        _full(LARGE, SimpleCache(LARGE).set, 3),
        rounds=ROUNDS,
    )
    ours, stock = ours_large / ours_small, stock_large / stock_small
    return [
        beside(f"lru: set, full at {SMALL:,} / SimpleCache", ours_small, stock_small),
        beside(f"lru: set, full at {LARGE:,} / SimpleCache", ours_large, stock_large),
        Row(
            f"lru: set at {LARGE:,} / at {SMALL:,}",
            f"{ours:,.2f} x",
            f"{stock:,.0f} x",
            ours / stock,
            f"<= {TARGET:.2f} x",
            ours > TARGET,
        ),
    ]


def _full(capacity: int, put: Callable[[str, Any], object], sets: int) -> Round:
    """Fill a cache through `put`; the round sets fresh keys, each of which evicts one."""
    set_one = partial(_set, put)
    seconds_each(set_one, fresh_keys(capacity + 1))
    return lambda: seconds_each(set_one, fresh_keys(sets))


def _set(put: Callable[[str, Any], object], key: str) -> None:
    put(key, 1)
