"""`memoize`, `cached` on a function, and `get_or_set`: one result for each set of arguments."""

from itertools import count
from typing import Any

import pytest
from flask import Flask, session

from {{ cookiecutter.project_slug }}.caching.cache import Cache

from tests.conftest import Clock, in_threads

numbers = count()


def fresh(a: Any = 0, b: Any = 0, *more: Any, c: Any = None, **rest: Any) -> int:
    """Return a new number at each call."""
    return next(numbers)


class Point:
    """A class whose objects all have the same repr."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __repr__(self) -> str:
        return "Point"


class Row(Point):
    """A class whose objects say what tells them apart, and cannot be pickled."""

    def __init__(self, x: int) -> None:
        super().__init__(x)
        self.connection = lambda: None

    def __caching_id__(self) -> int:
        return self.x


# The key: the function and its arguments, by their contents.


@pytest.mark.parametrize("decorator", ["cached", "memoize"])
def test_equal_arguments_share_a_result_however_they_are_passed(
    cache: Cache, decorator: str
) -> None:
    call = getattr(cache, decorator)()(fresh)
    assert call(1) == call(a=1) == call(1, 0, c=None)
    assert call(1, x=1, y=2) == call(1, y=2, x=1)
    assert call("word", "word") == call("".join(["wo", "rd"]), "word")
    assert call(Point(1)) == call(Point(1))
    assert call([Row(1)]) == call([Row(1)])
    assert call({0, 8}) == call({8, 0})


@pytest.mark.parametrize("decorator", ["cached", "memoize"])
def test_different_arguments_do_not_share_a_result(cache: Cache, decorator: str) -> None:
    call = getattr(cache, decorator)()(fresh)
    values: list[Any] = [0, None, False, 0.0, "", "0", b"0", (), Point, Point(1), Point(2), Row(1)]
    results = [call(value) for value in values]
    results += [call("a", "bc"), call("ab", "c"), call(0, 1), call(0, 0, 1), call(0, c=1)]
    results += [call(0, d=1), call(0, rest=1)]
    assert len(set(results)) == len(results)


def test_functions_do_not_share_a_result(cache: Cache) -> None:
    functions: list[Any] = [abs, hex]
    assert [cache.memoize()(function)(7) for function in functions] == [7, "0x7"]


def test_an_argument_that_cannot_be_pickled_is_an_error(cache: Cache) -> None:
    with pytest.raises(TypeError, match=r"fresh cannot be cached"):
        cache.memoize()(fresh)(lambda: None)


def test_ignored_arguments_do_not_count(cache: Cache) -> None:
    call = cache.memoize(args_to_ignore=["a", "trace"])(fresh)
    assert call(lambda: 1, 5) == call(a=None, b=5, trace=object())
    assert call(None, 5) != call(None, 6)


def test_key_prefix_is_the_key_of_a_function_without_arguments(cache: Cache) -> None:
    call = cache.cached(key_prefix="all_comments")(lambda: next(numbers))
    first = call()
    assert cache.get("all_comments") == first
    cache.delete("all_comments")
    assert call() != first


# The result.


def test_none_is_a_result_and_an_error_is_not(cache: Cache) -> None:
    calls = count(1)

    @cache.memoize()
    def fail_once() -> None:
        if next(calls) == 1:
            raise OSError("fails once")

    with pytest.raises(OSError, match="once"):
        fail_once()
    assert [fail_once(), fail_once(), next(calls)] == [None, None, 3]


@pytest.mark.parametrize("decorator", ["cached", "memoize"])
def test_a_result_expires_after_the_timeout(cache: Cache, clock: Clock, decorator: str) -> None:
    call = getattr(cache, decorator)(timeout=lambda: 60)(fresh)
    first = call()
    clock.forward(59)
    assert call() == first
    clock.forward(1)
    assert call() != first


def test_a_result_that_depends_on_the_session_is_not_kept(cache: Cache, bare: Flask) -> None:
    greet = cache.cached()(lambda: f"hello {session['user']}")
    bare.add_url_rule("/<user>", "view", lambda user: session.update(user=user) or greet())
    client = bare.test_client()
    assert [client.get(f"/{user}").text for user in ("ada", "bob")] == ["hello ada", "hello bob"]


# Dropping.


def test_a_memoized_function_is_dropped_call_by_call_or_as_a_whole(cache: Cache) -> None:
    call, other = cache.memoize()(fresh), cache.memoize()(lambda n: next(numbers))
    before = call(1), call(2), other(3)
    cache.delete_memoized(call, 1)
    after = call(1), call(2), other(3)
    assert [one == two for one, two in zip(before, after, strict=True)] == [False, True, True]
    cache.delete_memoized(call)
    assert not {call(1), call(2)} & {*before, *after}


memoizing = Cache()  # of this module, since a class that a test defines cannot be pickled


class Account(Point):
    @memoizing.memoize()
    def balance(self) -> int:
        return next(numbers)


def test_a_method_is_dropped_for_one_object_or_for_all(bare: Flask) -> None:
    memoizing.init_app(bare)
    with bare.app_context():
        before = Account(1).balance(), Account(2).balance()
        memoizing.delete_memoized(Account(1).balance)
        assert Account(1).balance() != before[0]
        assert Account(2).balance() == before[1]
        memoizing.delete_memoized(Account.balance)
        assert Account(2).balance() != before[1]


def test_a_tag_drops_every_entry_that_has_it(cache: Cache) -> None:
    call = cache.memoize(tags=["posts"])(fresh)
    first = call()
    cache.get_or_set("a", lambda: "old", tags=["posts", "users"])
    cache.get_or_set("b", lambda: "old", tags=["users"])
    assert cache.invalidate("posts")
    assert call() != first
    assert cache.get_many("a", "b") == [None, "old"]


# Stale values.


def test_a_stale_value_is_returned_while_one_caller_computes_a_new_one(
    cache: Cache, clock: Clock, bare: Flask
) -> None:
    def ask(compute: Any) -> Any:
        return cache.get_or_set("k", compute, timeout=10, stale=30)

    assert ask(lambda: "old") == "old"
    clock.forward(39)
    meanwhile: list[Any] = []
    assert ask(lambda: meanwhile.extend(in_threads(1, bare, lambda: ask(pytest.fail)))) is None
    assert meanwhile == ["old"]
    assert ask(pytest.fail) is None


def test_nothing_is_returned_after_timeout_and_stale(cache: Cache, clock: Clock) -> None:
    assert cache.get_or_set("k", lambda: "old", timeout=10, stale=30) == "old"
    clock.forward(40)
    assert cache.get_or_set("k", lambda: "new", timeout=10, stale=30) == "new"


@pytest.mark.parametrize("drop", ["delete", "clear", "invalidate"])
def test_a_drop_beats_stale(cache: Cache, clock: Clock, drop: str) -> None:
    cache.get_or_set("k", lambda: "old", timeout=10, stale=30, tags=["t"])
    clock.forward(15)
    getattr(cache, drop)(*{"delete": ["k"], "clear": [], "invalidate": ["t"]}[drop])
    assert cache.get_or_set("k", lambda: "new", timeout=10, stale=30, tags=["t"]) == "new"
