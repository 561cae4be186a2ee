"""`cached` on a function that is not the request's view: kept by name and arguments."""

from itertools import count
from typing import Any

import pytest
from flask import Flask

from shop.caching.cache import Cache

numbers = count()


class Twin:
    """Two of these have one repr."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __repr__(self) -> str:
        return "Twin"

    def times(self, factor: int) -> int:
        return self.n * factor


@pytest.fixture
def add(cache: Cache) -> Any:
    """Return a cached function of several arguments."""

    @cache.cached()
    def add(a: Any, b: Any = 2, *more: Any, c: Any = 3, **rest: Any) -> int:
        return next(numbers)

    return add


def test_equal_calls_share_a_result_however_arguments_are_passed(add: Any) -> None:
    first = add(1)
    assert [add(1, 2), add(a=1), add(b=2, a=1), add(1, c=3)] == [first] * 4
    assert add(1, x=1, y=2) == add(1, y=2, x=1)


def test_different_calls_do_not(add: Any) -> None:
    calls = [
        add(1),
        add("1"),
        add(1.5),
        add(None),
        add(1, 3),
        add(1, 2, 3),
        add(1, c=4),
        add(1, d=1),
        add((1, 2)),
        add("a", "bc"),
        add("ab", "c"),
        add(Twin(1)),
        add(Twin(2)),
    ]
    assert len(set(calls)) == len(calls)
    assert add(Twin(1)) == calls[-2]


def test_equal_strings_are_one_argument_whether_or_not_they_are_one_object(add: Any) -> None:
    word = "".join(["wo", "rd"])
    assert add(word, word) == add("word", "".join(["w", "ord"]))


def test_functions_of_one_signature_do_not_share(cache: Cache) -> None:
    def one() -> str:
        return "one"

    def other() -> str:
        return "other"

    assert [cache.cached()(f)() for f in (one, other)] == ["one", "other"]


@pytest.mark.parametrize("method", ["cached", "memoize"])
def test_the_object_of_a_bound_method_counts(cache: Cache, method: str) -> None:
    keep = getattr(cache, method)()
    assert [keep(Twin(n).times)(10) for n in (1, 2, 1)] == [10, 20, 10]


def test_an_argument_that_cannot_be_pickled_is_an_error_that_names_the_function(add: Any) -> None:
    with pytest.raises(TypeError, match=r"add cannot be cached .* such as an object's id"):
        add(lambda: None)


def test_none_is_kept(cache: Cache) -> None:
    calls: list[int] = []
    nothing = cache.cached()(lambda: calls.append(1))
    nothing()
    nothing()
    assert calls == [1]


def test_an_error_is_not_kept(cache: Cache) -> None:
    answers = iter([0, 1])

    @cache.cached()
    def divide() -> float:
        return 1 / next(answers)

    with pytest.raises(ZeroDivisionError):
        divide()
    assert divide() == 1


def test_a_key_prefix_is_the_key_where_there_are_no_arguments(cache: Cache) -> None:
    @cache.cached(key_prefix="all_comments")
    def comments(page: int = 1) -> int:
        return next(numbers)

    first = comments()
    assert cache.get("all_comments") == first
    assert comments(2) != first
    cache.delete("all_comments")
    assert comments() != first


@pytest.mark.parametrize("key", ["all_comments", "value:x", "memoized:x", "page:x", "tag:x"])
@pytest.mark.parametrize("option", ["key_prefix", "callable", "make_cache_key"])
def test_a_key_of_the_apps_own_finds_an_integer_that_the_app_stored(
    cache: Cache, key: str, option: str
) -> None:
    given: Any = key if option == "key_prefix" else lambda: key
    kept: Any = cache.cached(**{option.replace("callable", "key_prefix"): given})(lambda: "new")
    cache.inc(key, 5)
    assert kept() == 5
    cache.delete(key)
    assert kept() == cache.get(key) == "new"


def test_a_view_that_another_view_calls_is_a_function(cache: Cache, bare: Flask) -> None:
    @bare.get("/inner")
    @cache.cached()
    def inner() -> dict[str, int]:
        return {"n": next(numbers)}

    @bare.get("/outer")
    def outer() -> Any:
        return {"outer": inner()}

    client = bare.test_client()
    first = client.get("/outer").json
    assert client.get("/outer").json == first
    assert client.get("/inner").json != first["outer"]  # type: ignore[index]


def test_unless_forced_update_is_stale_and_response_filter_work_as_in_flask_caching(
    cache: Cache,
) -> None:
    flags = {"unless": False, "forced": False, "stale": False, "keep": True}

    @cache.cached(
        unless=lambda: flags["unless"],
        forced_update=lambda: flags["forced"],
        is_stale=lambda value: flags["stale"],
        response_filter=lambda value: flags["keep"],
    )
    def number() -> int:
        return next(numbers)

    first = number()
    assert number() == first
    for flag in ("forced", "stale"):
        flags[flag] = True
        second = number()
        flags[flag] = False
        assert second == number() != first
        first = second
    flags["unless"] = True
    assert number() != first
    flags["unless"] = False
    assert number() == first
    cache.clear()
    flags["keep"] = False
    assert number() != number()


def test_the_attributes_of_flask_caching_are_there(cache: Cache) -> None:
    def number(n: int) -> int:
        return next(numbers)

    kept = cache.cached(timeout=60)(number)
    assert kept.uncached is number
    assert kept.cache_timeout == 60
    kept(1)
    cache.delete(kept.make_cache_key(1))
    assert not cache.has(kept.make_cache_key(1))


@pytest.mark.parametrize("timeout", [-1, float("nan"), "60"])
def test_a_bad_timeout_is_refused_where_the_function_is_decorated(
    cache: Cache, timeout: Any
) -> None:
    with pytest.raises((ValueError, TypeError), match="such as 300"):
        cache.cached(timeout=timeout)(lambda: None)
