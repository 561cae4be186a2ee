"""LRUCache."""

import threading
from typing import Any

import pytest

from shop.caching import LRUCache
from tests.engine.fixtures import Clock


def test_what_was_used_least_recently_is_evicted() -> None:
    lru = LRUCache(2)
    lru.set("a", 1)
    lru.set("b", 2)
    assert lru.get("a") == 1
    lru.set("c", 3)
    assert ("a" in lru, "b" in lru, "c" in lru) == (True, False, True)
    assert len(lru) == 2


def test_setting_again_is_use_and_evicts_nothing() -> None:
    lru = LRUCache(2)
    for key in "aba":
        lru.set(key, key)
    lru.set("c", "c")
    assert ("a" in lru, "b" in lru) == (True, False)
    assert lru.stats().evictions == 1


def test_asking_whether_a_key_is_there_is_no_use() -> None:
    lru = LRUCache(2)
    lru.set("a", 1)
    lru.set("b", 2)
    assert "a" in lru
    lru.set("c", 3)
    assert "a" not in lru


def test_none_is_a_value() -> None:
    lru = LRUCache(2)
    lru.set("k", None)
    assert "k" in lru
    assert lru.get("k", "default") is None
    assert lru.get("other", "default") == "default"


def test_an_entry_expires_after_the_ttl_of_the_cache_or_its_own() -> None:
    clock = Clock()
    lru = LRUCache(4, ttl=10, clock=clock)
    lru.set("cache's", 1)
    lru.set("own", 1, ttl=20)
    lru.set("for ever", 1, ttl=None)
    clock.forward(10)
    assert (lru.get("cache's"), lru.get("own")) == (None, 1)
    clock.forward(10)
    assert "own" not in lru
    assert not lru.delete("own")
    clock.forward(1e9)
    assert lru.get("for ever") == 1


def test_stats_count_hits_misses_and_evictions() -> None:
    lru = LRUCache(1)
    lru.get("a")
    lru.set("a", 1)
    lru.get("a")
    lru.get("a")
    lru.set("b", 1)
    assert lru.stats()._asdict() == {"hits": 2, "misses": 1, "evictions": 1}


def test_delete_and_clear() -> None:
    lru = LRUCache(3)
    lru.set("a", 1)
    lru.set("b", 1)
    assert lru.delete("a")
    assert not lru.delete("a")
    lru.clear()
    assert len(lru) == 0
    assert lru.get("b") is None


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_below_1_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match="128"):
        LRUCache(capacity)


@pytest.mark.parametrize("ttl", [0, -1, float("nan")])
def test_a_ttl_that_is_not_above_0_is_refused(ttl: float) -> None:
    with pytest.raises(ValueError, match="60"):
        LRUCache(1, ttl)
    with pytest.raises(ValueError, match="60"):
        LRUCache(1).set("k", "v", ttl)


def test_threads_raise_nothing_and_keep_the_bound() -> None:
    lru, errors, start = LRUCache(10), [], threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        try:
            for n in range(2000):
                lru.set((number, n % 20), n)
                lru.get((number - 1, n % 20))
                lru.delete((number, n % 7))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats: Any = lru.stats()
    assert errors == []
    assert len(lru) <= 10
    assert stats.hits + stats.misses == 8 * 2000


class Refusing:
    """A key that cannot be compared any more."""

    fails = False

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        if self.fails:
            raise ZeroDivisionError
        return True


def test_a_key_that_fails_leaves_no_lock() -> None:
    cache: LRUCache = LRUCache(2)
    key, other = Refusing(), Refusing()
    cache.set(key, 1)
    assert cache.get(other) == 1
    other.fails = key.fails = True
    with pytest.raises(ZeroDivisionError):
        cache.get(other)
    thread = threading.Thread(target=cache.set, args=("k", 1), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
