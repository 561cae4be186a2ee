"""What every backend promises. Point `backend_settings` at one of your own to check it."""

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask

from shop.caching.cache import Cache
from tests.engine import inside
from tests.engine.fixtures import Clock


@dataclasses.dataclass
class Point:
    """A value of a class of its own."""

    x: int
    y: int


VALUES = [
    None,
    False,
    True,
    0,
    -5,
    2**80,
    1.5,
    "",
    "text \N{SNOWMAN}",
    b"",
    b"\x00\xff",
    (),
    (1, "a", None, 0.0),
    [1, [2]],
    {"a": {"b": (1, 2)}},
    {1, 2},
    timedelta(seconds=1),
    Point(1, 2),
    "x" * 2_000_000,
]
KEYS = [
    "k",
    "with space",
    "line\r\nbreak",
    "nul\x00",
    "\N{SNOWMAN}",
    "%s",
    "*",
    "[a]",
    "k" * 10_000,
    "half of a character \ud83d",
]


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work(number)` in `count` threads that start at once; return what each returned."""
    start = threading.Barrier(count)
    results: list[Any] = [None] * count

    def run(number: int) -> None:
        start.wait()
        results[number] = work(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_key_without_a_value_is_a_miss(cache: Cache) -> None:
    assert cache.get("k") is None
    assert not cache.has("k")
    assert cache.get_many("k", "l") == [None, None]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: repr(v)[:20])
def test_a_value_comes_back_as_it_was(cache: Cache, value: Any) -> None:
    assert cache.set("k", value)
    assert cache.get("k") == value
    assert type(cache.get("k")) is type(value)
    assert cache.has("k")


@pytest.mark.parametrize("key", KEYS, ids=ascii)
def test_a_key_may_be_any_text(cache: Cache, key: str) -> None:
    cache.set(key, 1)
    cache.set(key + "x", 2)
    assert cache.get_many(key, key + "x") == [1, 2]
    assert cache.delete(key)
    assert cache.get_many(key, key + "x") == [None, 2]
    assert cache.inc(key + "x", 3) == 5
    assert cache.add(key, "added")
    assert not cache.add(key, "again")
    assert cache.get_or_set(key, lambda: "computed") == "added"
    assert cache.get_or_set(key, lambda: "computed", tags=[key]) == "computed"
    assert cache.invalidate(key)
    assert cache.get_or_set(key, lambda: "again", tags=[key]) == "again"
    assert cache.clear()
    assert cache.get_many(key, key + "x") == [None, None]


def test_set_replaces_the_value_and_its_timeout(cache: Cache, clock: Clock) -> None:
    cache.set("k", "old", timeout=10)
    cache.set("k", "new", timeout=100)
    clock.forward(50)
    assert cache.get("k") == "new"


def test_a_value_is_a_miss_from_its_timeout_on(cache: Cache, clock: Clock) -> None:
    cache.set("k", "v", timeout=10)
    clock.forward(9.9)
    assert cache.get("k") == "v"
    clock.forward(0.1)
    assert cache.get("k") is None
    assert not cache.has("k")
    assert cache.get_many("k", "l") == [None, None]


def test_a_timeout_may_be_a_timedelta(cache: Cache, clock: Clock) -> None:
    cache.set("k", "v", timeout=timedelta(minutes=1))
    clock.forward(59)
    assert cache.get("k") == "v"
    clock.forward(1)
    assert cache.get("k") is None


def test_timeout_0_never_expires(cache: Cache, clock: Clock) -> None:
    cache.set("k", "v", timeout=0)
    clock.forward(100 * 365 * 86400)
    assert cache.get("k") == "v"


def test_a_timeout_of_years_is_no_date_in_the_past(cache: Cache) -> None:
    cache.set("k", "v", timeout=31536000)
    assert cache.get("k") == "v"


def test_no_timeout_is_the_default_timeout(bare: Flask, clock: Clock) -> None:
    bare.config["CACHE_DEFAULT_TIMEOUT"] = 60
    cache = Cache(bare)
    cache.clock = clock
    with bare.app_context():
        cache.set("k", "v")
        clock.forward(59)
        assert cache.get("k") == "v"
        clock.forward(1)
        assert cache.get("k") is None


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), timedelta(seconds=-1)])
def test_a_timeout_that_is_no_time_is_refused(cache: Cache, timeout: Any) -> None:
    with pytest.raises(ValueError, match="such as 300"):
        cache.set("k", "v", timeout=timeout)
    assert not cache.has("k")


@pytest.mark.parametrize("timeout", ["60", True, object()])
def test_a_timeout_that_is_no_number_is_refused(cache: Cache, timeout: Any) -> None:
    with pytest.raises(TypeError, match="such as 300"):
        cache.set("k", "v", timeout=timeout)


def test_changing_a_value_does_not_change_the_cached_one(cache: Cache) -> None:
    value = {"list": [1]}
    cache.set("k", value)
    value["list"].append(2)
    cache.get("k")["list"].append(3)
    assert cache.get("k") == {"list": [1]}


def test_a_value_that_cannot_be_pickled_is_logged_and_fails_nothing(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        assert not cache.set("k", threading.Lock())
        assert not cache.add("k", threading.Lock())
    assert "cannot be cached" in caplog.text
    assert not cache.has("k")
    assert cache.set("k", "v")


def test_add_stores_only_what_is_missing_or_expired(cache: Cache, clock: Clock) -> None:
    assert cache.add("k", None, timeout=10)
    assert not cache.add("k", "second")
    assert cache.get("k") is None
    assert cache.has("k")
    clock.forward(10)
    assert cache.add("k", "third")
    assert cache.get("k") == "third"


def test_delete_tells_whether_there_was_something(cache: Cache) -> None:
    cache.set("k", "v")
    assert cache.delete("k")
    assert not cache.delete("k")
    assert not cache.has("k")


def test_several_keys_at_once(cache: Cache, clock: Clock) -> None:
    assert cache.set_many({"a": 1, "b": [2], "c": None}, timeout=10) == ["a", "b", "c"]
    assert cache.get_many("c", "b", "a", "nothing") == [None, [2], 1, None]
    assert cache.get_dict("a", "nothing") == {"a": 1, "nothing": None}
    assert cache.delete_many("a", "nothing") == ["a", "nothing"]
    assert not cache.has("a")
    clock.forward(10)
    assert not cache.has("b")


def test_none_of_several_keys(cache: Cache) -> None:
    assert cache.set_many({}) == []
    assert cache.get_many() == []
    assert cache.get_dict() == {}
    assert cache.delete_many() == []


def test_inc_and_dec_count_from_0_or_from_what_was_set(cache: Cache) -> None:
    assert cache.inc("n") == 1
    assert cache.inc("n", 41) == 42
    assert cache.dec("n", 2) == 40
    assert cache.dec("m") == -1
    assert cache.get("n") == 40
    cache.set("n", 7)
    assert cache.inc("n") == 8


@pytest.mark.parametrize("delta", [1.5, 2.0, "1", None, Decimal(1)])
@pytest.mark.parametrize("before", [None, 5, 2**70, "text"])
def test_inc_and_dec_refuse_what_is_no_integer(cache: Cache, delta: Any, before: Any) -> None:
    if before is not None:
        cache.set("k", before)
    for count in (cache.inc, cache.dec):
        with pytest.raises(TypeError):
            count("k", delta)
    assert cache.get("k") == before


def test_inc_and_dec_take_true_for_1(cache: Cache) -> None:
    assert [cache.inc("n", True), cache.inc("n", True), cache.dec("n", True)] == [1, 2, 1]
    assert type(cache.get("n")) is int


@pytest.mark.parametrize(
    ("act", "total"),
    [
        (lambda cache: cache.get_or_set("n", lambda: 100), 101),
        (lambda cache: cache.get_or_set("n", lambda: 100, tags=["t"]), 101),
        (lambda cache: cache.set("n", 7), 8),
        (lambda cache: cache.delete("n"), 1),
        (lambda cache: cache.clear(), 1),
    ],
)
def test_inc_counts_whatever_another_caller_does_meanwhile(
    cache: Cache, clock: Clock, monkeypatch: pytest.MonkeyPatch, act: Any, total: int
) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> Any:
        found = find(*args, **kwargs)
        if next(calls) == 1:  # `inc` has the lease
            act(cache)
        return found

    find, calls = cache.find, itertools.count()
    cache.get_or_set("n", lambda: 5, 10)
    clock.forward(10)
    monkeypatch.setattr(cache, "find", interrupted)
    assert cache.inc("n") == total
    assert cache.get("n") == total


def test_inc_does_not_touch_what_is_no_integer(cache: Cache) -> None:
    cache.set("k", "text")
    with pytest.raises(Exception, match="integer"):
        cache.inc("k")
    assert cache.get("k") == "text"


@pytest.mark.parametrize("tags", [(), ("t",)])
def test_threads_lose_no_inc_of_a_computed_integer(
    cache: Cache, bare: Flask, tags: tuple[str, ...]
) -> None:
    def work(_: int) -> None:
        with bare.app_context():
            for _ in range(10):
                assert cache.inc("n") is not None

    assert cache.get_or_set("n", lambda: 5, tags=tags) == 5
    together(4, work)
    assert cache.get("n") == 45


def test_threads_lose_no_inc(cache: Cache, bare: Flask) -> None:
    def work(_: int) -> None:
        with bare.app_context():
            for _ in range(50):
                cache.inc("n")

    together(8, work)
    assert cache.get("n") == 400


def test_of_threads_that_add_one_wins(cache: Cache, bare: Flask) -> None:
    def work(number: int) -> int:
        with bare.app_context():
            return sum(cache.add(f"k{round_}", number) for round_ in range(50))

    assert sum(together(8, work)) == 50


def test_clear_drops_everything(cache: Cache) -> None:
    names = [f"k{n}" for n in range(600)]
    cache.set_many(dict.fromkeys(names, "v"))
    assert cache.clear()
    assert not any(cache.get_many(*names))


def test_clear_leaves_other_apps_alone(cache: Cache, bare: Flask) -> None:
    # Were the prefix of `cache` taken for a pattern, it would match the second of these.
    prefix = bare.config["CACHE_KEY_PREFIX"]
    for neighbour in (prefix + "2", prefix.replace("[*]", "*"), prefix[:-1]):
        bare.config["CACHE_KEY_PREFIX"] = neighbour
        other = Cache(bare)
        other.set("k", neighbour)
        cache.clear()
        assert other.get("k") == neighbour


# Time.

MONTH = 30 * 86400
NAMES = ["set", "many", "none", "add", "count", "computed"]


@pytest.fixture
def here(bare: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cache, Clock]]:
    """Return a cache that asks `time.time` for the time, and what moves that."""
    clock = Clock()
    monkeypatch.setattr("time.time", clock)
    with bare.app_context():
        yield Cache(bare), clock


def fill(cache: Cache, count: Any) -> Callable[[], int]:
    """Store values of each kind for a minute; return a memoized function, too."""
    cache.set_many({"many": ("v",), "none": None}, 60)
    cache.set("set", "v", 60)
    cache.set("count", count, 60)
    cache.add("add", ["v"], 60)
    cache.get_or_set("computed", lambda: {"v"}, 60, stale=60, tags=["t"])
    return cache.memoize(60)(lambda: next(runs))


runs = itertools.count()


@pytest.mark.parametrize("count", [5, 1.5])
@pytest.mark.parametrize(("move", "kept"), [(59, True), (120, False), (MONTH, False)])
def test_when_time_moves_on_what_is_due_expires(
    here: tuple[Cache, Clock], count: Any, move: float, kept: bool
) -> None:
    cache, clock = here
    memoized = fill(cache, count)
    first = memoized()
    clock.forward(move)
    inside.let_pass(cache, move)
    assert [cache.has(name) for name in NAMES] == [kept] * len(NAMES)
    assert (memoized() == first) == kept


@pytest.mark.parametrize("back", [2, 30, 86400, MONTH])
def test_values_from_the_future_are_misses_and_are_replaced(
    here: tuple[Cache, Clock], back: float
) -> None:
    cache, clock = here
    first = fill(cache, 1.5)()
    clock.forward(-back)
    assert not any(map(cache.has, NAMES))
    memoized = fill(cache, 1.5)
    second = memoized()
    clock.forward(59)
    assert all(map(cache.has, NAMES))
    assert memoized() == second != first
    clock.forward(1)
    assert not any(map(cache.has, NAMES))
    assert memoized() != second


def test_an_inc_that_is_refused_does_not_keep_a_computed_value_out(cache: Cache) -> None:
    def compute() -> str:
        with pytest.raises(OverflowError):
            cache.inc("k", 2**63 - 1)
        return "computed"

    cache.set("k", 1)
    assert cache.get_or_set("k", compute, tags=["t"]) == "computed"
    assert cache.get("k") == "computed"
