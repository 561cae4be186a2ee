"""`LRUCache`: a small cache of one process."""

import pytest

from {{ cookiecutter.project_slug }}.caching import LRUCache

from tests.conftest import Clock


def test_the_least_recently_used_entry_makes_room() -> None:
    lru = LRUCache(2)
    lru.set("a", 1)
    lru.set("b", 2)
    assert lru.get("a") == 1
    assert "b" in lru  # a look is not a use
    lru.set("c", 3)
    assert ("a" in lru, "b" in lru, "c" in lru) == (True, False, True)
    lru.set("a", 4)  # a use, and no new entry
    lru.set("d", 5)
    assert ("a" in lru, "c" in lru, len(lru)) == (True, False, 2)


def test_none_is_a_value() -> None:
    lru = LRUCache(2)
    lru.set("k", None)
    assert "k" in lru
    assert lru.get("k", "default") is None
    assert lru.get("other", "default") == "default"


def test_an_entry_expires_after_its_own_ttl_or_that_of_the_cache() -> None:
    clock = Clock()
    lru = LRUCache(4, ttl=10, clock=clock)
    lru.set("cache", 1)
    lru.set("own", 1, ttl=20)
    lru.set("never", 1, ttl=None)
    clock.forward(10)
    assert (lru.get("cache"), lru.get("own")) == (None, 1)
    clock.forward(10)
    assert "own" not in lru
    assert not lru.delete("own")
    clock.forward(1e9)
    assert lru.get("never") == 1


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
    assert (len(lru), lru.get("b")) == (0, None)


@pytest.mark.parametrize("arguments", [(0,), (-1,), (1, 0), (1, -1), (1, float("nan"))])
def test_a_capacity_below_1_or_a_ttl_not_above_0_is_an_error(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="for example"):
        LRUCache(*arguments)
