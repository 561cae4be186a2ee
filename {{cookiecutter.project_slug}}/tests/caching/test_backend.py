"""The contract of any backend. Point `backend_settings` at one of your own to check it."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from {{ cookiecutter.project_slug }}.caching.cache import Cache

from tests.conftest import Clock, bare_app, in_threads

VALUES: list[Any] = [None, False, 0, -5, 2**80, 1.5, "\N{SNOWMAN}", b"\x00\xff", (1, "a", None)]
VALUES += [[1, [2]], {"a": {"b": (1, 2)}}, {1, 2}, timedelta(seconds=1), "x" * 2_000_000]


class Unreadable:
    """Can be pickled, but the pickle cannot be loaded: its class was changed, for example."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_a_value_comes_back_as_it_was(cache: Cache, value: Any) -> None:
    assert cache.set("k", value)
    assert cache.has("k")
    assert cache.get("k") == value
    assert type(cache.get("k")) is type(value)


@pytest.mark.parametrize(
    "key", ["a b", "\r\nset x", "\x00", "\N{SNOWMAN}", "%s", "[*]", "k" * 9999], ids=ascii
)
def test_a_key_may_be_any_text(cache: Cache, key: str) -> None:
    cache.set(key, 1)
    cache.set(key + "x", 2)
    assert cache.get_many(key, key + "x") == [1, 2]
    assert [cache.delete(key), cache.delete(key)] == [True, False]
    assert cache.get_many(key, key + "x") == [None, 2]


def test_a_change_to_a_value_does_not_reach_the_cache(cache: Cache) -> None:
    value = {"list": [1]}
    cache.set("k", value)
    value["list"].append(2)
    cache.get("k")["list"].append(3)
    assert cache.get("k") == {"list": [1]}


def test_a_value_that_cannot_be_pickled_is_not_stored(cache: Cache) -> None:
    assert not cache.set("k", threading.Lock())
    assert not cache.add("k", threading.Lock())
    assert not cache.has("k")


def test_a_stored_value_that_cannot_be_read_is_a_miss(cache: Cache) -> None:
    cache.set("k", Unreadable())
    assert cache.get("k") is None
    assert cache.get_or_set("k", lambda: "new") == "new"
    assert cache.get("k") == "new"


# Expiry.


@pytest.mark.parametrize(
    ("timeout", "seconds"), [(10, 10), (timedelta(minutes=1), 60), (None, 300)], ids=str
)
def test_a_value_expires_after_its_timeout_or_the_default_timeout(
    cache: Cache, clock: Clock, timeout: Any, seconds: int
) -> None:
    cache.set("k", "v", timeout=timeout)
    clock.forward(seconds - 0.1)
    assert cache.get("k") == "v"
    clock.forward(0.1)
    assert (cache.get("k"), cache.has("k")) == (None, False)
    assert cache.get_many("k", "l") == [None, None]


def test_timeout_0_never_expires(cache: Cache, clock: Clock) -> None:
    cache.set("k", "v", timeout=0)
    clock.forward(100 * 365 * 86400)
    assert cache.get("k") == "v"


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(-1, ValueError), (float("nan"), ValueError), ("60", TypeError), (True, TypeError)],
)
def test_a_bad_timeout_is_an_error(cache: Cache, timeout: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="such as 300"):
        cache.set("k", "v", timeout=timeout)
    assert not cache.has("k")


# Other operations.


def test_add_stores_only_if_there_is_no_value(cache: Cache, clock: Clock) -> None:
    assert cache.add("k", None, timeout=10)
    assert not cache.add("k", "second")
    assert cache.get("k") is None
    clock.forward(10)
    assert cache.add("k", "third")
    assert cache.get("k") == "third"


def test_inc_and_dec_start_at_0_or_at_the_stored_integer(cache: Cache) -> None:
    assert (cache.inc("n"), cache.inc("n", 41), cache.dec("n", 2)) == (1, 42, 40)
    assert cache.dec("m") == -1
    cache.set("n", 7)
    assert (cache.inc("n"), cache.get("n")) == (8, 8)
    cache.set("n", "text")
    with pytest.raises(TypeError, match="integer"):
        cache.inc("n")
    assert cache.get("n") == "text"


def test_one_of_many_threads_adds_and_no_inc_is_lost(cache: Cache, bare: Flask) -> None:
    assert sum(in_threads(8, bare, lambda: cache.add("k", "v"))) == 1
    in_threads(4, bare, lambda: [cache.inc("n") for _ in range(50)])
    assert cache.get("n") == 200


def test_many_keys_at_once(cache: Cache, clock: Clock) -> None:
    assert cache.set_many({"a": 1, "b": [2], "c": None}, timeout=10) == ["a", "b", "c"]
    assert cache.get_many("c", "b", "a", "none") == [None, [2], 1, None]
    assert cache.get_dict("a", "none") == {"a": 1, "none": None}
    assert cache.delete_many("a", "none") == ["a", "none"]
    assert (cache.has("a"), cache.has("b")) == (False, True)
    clock.forward(10)
    assert not cache.has("b")


def test_clear_drops_the_entries_of_this_app_alone(cache: Cache, settings: Any) -> None:
    prefix = settings["CACHE_KEY_PREFIX"]  # as a pattern it would match the second neighbour
    neighbours = [prefix + "2", prefix.replace("[*]", "*"), prefix[:-1]]
    others = [bare_app(settings | {"CACHE_KEY_PREFIX": neighbour}) for neighbour in neighbours]
    for other in others:
        cache.init_app(other)
        with other.app_context():
            cache.set("k", "v")
    cache.set_many({f"k{n}": n for n in range(600)})
    assert cache.clear()
    assert cache.get_many(*(f"k{n}" for n in range(600))) == [None] * 600
    for other in others:
        with other.app_context():
            assert cache.get("k") == "v"


def test_a_full_cache_makes_room_for_new_values(small_settings: dict[str, Any]) -> None:
    cache = Cache(bare_app(small_settings))
    for number in range(100):
        assert cache.set(f"k{number}", "x" * 100_000)
        assert cache.has(f"k{number}")
    assert 0 < sum(cache.has(f"k{number}") for number in range(100)) < 100


# The lease: one caller computes, and a drop meanwhile keeps its value from being stored.


def test_one_of_many_threads_computes(cache: Cache, bare: Flask) -> None:
    begun = threading.Barrier(8, timeout=30)
    computed: list[int] = []

    def ask() -> int:
        begun.wait()
        return int(cache.get_or_set("k", compute))

    def compute() -> int:
        computed.append(1)
        threading.Event().wait(0.1)  # time for the others to miss, were they to compute as well
        return len(computed)

    assert in_threads(8, bare, ask) == [1] * 8
    assert cache.get("k") == 1


@pytest.mark.parametrize("drop", ["delete", "delete_many", "clear", "invalidate"])
def test_a_value_that_is_dropped_while_it_is_computed_is_not_stored(
    cache: Cache, drop: str
) -> None:
    arguments = {"clear": [], "invalidate": ["t"]}.get(drop, ["k"])

    def compute() -> str:
        getattr(cache, drop)(*arguments)
        return "old"

    assert cache.get_or_set("k", compute, tags=["t"]) == "old"
    assert cache.get("k") is None
    assert cache.get_or_set("k", lambda: "new", tags=["t"]) == "new"


def test_a_value_that_is_set_while_another_is_computed_stays(cache: Cache) -> None:
    def compute() -> str:
        cache.set("k", "new")
        return "old"

    assert cache.get_or_set("k", compute) == "old"
    assert cache.get("k") == "new"
