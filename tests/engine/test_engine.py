"""`get_or_set` and tags."""

from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from shop.caching.cache import Cache
from tests.engine import inside
from tests.engine.fixtures import Clock


def test_a_hit_computes_nothing(cache: Cache, clock: Clock) -> None:
    numbers = count()
    assert cache.get_or_set("k", lambda: next(numbers), timeout=10) == 0
    clock.forward(9)
    assert cache.get_or_set("k", lambda: next(numbers), timeout=10) == 0
    clock.forward(1)
    assert cache.get_or_set("k", lambda: next(numbers), timeout=10) == 1


def test_none_is_a_value(cache: Cache) -> None:
    computed: list[None] = []
    for _ in range(2):
        assert cache.get_or_set("k", lambda: computed.append(None)) is None
    assert computed == [None]


def test_an_error_is_raised_and_nothing_is_stored(cache: Cache) -> None:
    with pytest.raises(ZeroDivisionError):
        cache.get_or_set("k", lambda: 1 // 0, tags=["t"])
    assert cache.get_or_set("k", lambda: "fine", tags=["t"]) == "fine"


@pytest.mark.parametrize("timeout", [60, 60.0, timedelta(minutes=1), lambda: 60])
def test_a_timeout_may_be_seconds_a_timedelta_or_a_callable(
    cache: Cache, clock: Clock, timeout: Any
) -> None:
    cache.get_or_set("k", lambda: "v", timeout)
    clock.forward(59)
    assert cache.get("k") == "v"
    clock.forward(1)
    assert cache.get("k") is None


def test_seconds_begin_when_the_value_is_there(cache: Cache, clock: Clock) -> None:
    def slow() -> str:
        clock.forward(30)
        return "v"

    cache.get_or_set("k", slow, timeout=10)
    clock.forward(9)
    assert cache.get("k") == "v"


def test_a_callable_timeout_is_asked_before_computing(cache: Cache, clock: Clock) -> None:
    """What was computed from the data of one day is not valid until the end of the next."""

    def until_midnight() -> float:
        return 86400 - clock() % 86400

    def over_midnight() -> str:
        clock.forward(2)
        return "of the day before"

    clock.now = 86400 - 1
    cache.get_or_set("k", over_midnight, until_midnight)
    assert cache.get("k") is None


def test_a_bad_timeout_is_refused_before_computing(cache: Cache) -> None:
    with pytest.raises(ValueError, match="-1"):
        cache.get_or_set("k", lambda: pytest.fail("computed"), timeout=-1)


def test_invalidate_makes_every_entry_with_the_tag_a_miss(cache: Cache) -> None:
    for key, tags in {"a": ["x"], "b": ["x", "y"], "c": ["y"], "d": []}.items():
        cache.get_or_set(key, lambda: "old", tags=tags)
    assert cache.invalidate("x")
    assert cache.get_many("a", "b", "c", "d") == [None, None, "old", "old"]
    assert cache.get_or_set("b", lambda: "new", tags=["x", "y"]) == "new"
    assert cache.get("b") == "new"


def test_an_invalidation_reaches_an_entry_that_is_being_computed(cache: Cache) -> None:
    for tags in (["x"], ["y", "x"]):
        cache.get_or_set("k", lambda: cache.invalidate("x") and "old", tags=tags)
        assert cache.get("k") is None
        assert cache.get_or_set("k", lambda: "new", tags=tags) == "new"


def test_an_evicted_tag_makes_its_entries_misses_for_good(cache: Cache) -> None:
    cache.get_or_set("a", lambda: "old", tags=["x"])
    (token,) = inside.token_keys(cache, "a")
    cache.delete(token)
    cache.get_or_set("b", lambda: "other", tags=["x"])
    assert cache.get_many("a", "b") == [None, "other"]


def test_an_entry_stored_without_a_tag_is_a_miss_for_who_asks_with_it(cache: Cache) -> None:
    cache.get_or_set("k", lambda: "old")
    assert cache.get_or_set("k", lambda: "new", tags=["x"]) == "new"


def test_a_tag_lives_as_long_as_its_longest_entry(cache: Cache, clock: Clock) -> None:
    cache.get_or_set("short", lambda: "v", timeout=60, tags=["x"])
    cache.get_or_set("for ever", lambda: "v", timeout=0, tags=["x"])
    clock.forward(10 * 365 * 86400)
    assert cache.get("for ever") == "v"


def test_a_tag_is_no_key(cache: Cache) -> None:
    cache.set("x", "value")
    cache.get_or_set("k", lambda: "v", tags=["x", "tag:x", "x y\r\n"])
    cache.invalidate("x")
    assert cache.get("x") == "value"
