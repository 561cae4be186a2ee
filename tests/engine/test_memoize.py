"""`memoize`: a function's result for its arguments, and `delete_memoized`."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest
from flask import Flask, abort, session
from flask.testing import FlaskClient

from shop.caching.cache import Cache
from tests.engine.fixtures import Clock

cache = Cache()  # of this module: a class that a test defines cannot be pickled
numbers = count()


class Adder:
    """Two of these have one repr."""

    def __init__(self, initial: int) -> None:
        self.initial = initial

    def __repr__(self) -> str:
        return "Adder"

    @cache.memoize()
    def add(self, b: int) -> int:
        return next(numbers)

    @cache.memoize(args_to_ignore=["self"])
    def shared(self, b: int) -> int:
        return next(numbers)

    @cache.memoize()
    def odd(this, b: int) -> int:
        return next(numbers)

    @classmethod
    @cache.memoize()
    def of_class(cls, b: int) -> int:
        return next(numbers)

    @staticmethod
    @cache.memoize()
    def of_none(b: int) -> int:
        return next(numbers)


class Heir(Adder):
    """Inherits what is memoized."""


class Row:
    """Has an identity of its own, and something that cannot be pickled."""

    def __init__(self, key: int, note: str = "") -> None:
        self.key, self.note, self.connection = key, note, count().__next__

    def __caching_id__(self) -> int:
        return self.key

    @cache.memoize()
    def add(self, b: int) -> int:
        return next(numbers)


def fresh(a: Any, b: Any = 0, *more: Any, c: Any = None, **rest: Any) -> int:
    """Return another number at each call."""
    return next(numbers)


@pytest.fixture(autouse=True)
def _bound(bare: Flask, clock: Clock) -> Iterator[None]:
    cache.init_app(bare)
    cache.clock = clock
    with bare.app_context():
        yield


# Keys.


def test_equal_calls_share_a_result_and_others_do_not() -> None:
    calls: list[list[Any]] = [  # each line is one call; `f` is the function, or deletes from it
        [lambda f: f(1), lambda f: f(a=1), lambda f: f(1, 0, c=None)],
        [lambda f: f(1, 2), lambda f: f(b=2, a=1)],
        [lambda f: f(1, x=1, y=2), lambda f: f(y=2, x=1, a=1)],
        [lambda f: f([1, [2]], {"k": "v"}), lambda f: f([1, [2]], {"k": "v"})],
        [lambda f: f("word", "word"), lambda f: f("".join("word"), "word")],
        [lambda f: f(Adder(1)), lambda f: f(Adder(1))],
        [lambda f: f(Row(1, "a"), c=[Row(2)]), lambda f: f(Row(1, "b"), c=[Row(2)])],
        [lambda f: f(0, 0, Row(1, "a")), lambda f: f(0, 0, Row(1, "b"))],
        [lambda f: f([{0, 8}]), lambda f: f([{8, 0}])],
    ]
    values: list[Any] = [0, None, False, 0.0, "", "0", b"0", (), Adder, Adder(2), Row, Row(1)]
    calls += [[lambda f, a=a: f(a)] for a in values]
    several: list[Any] = [(0, None), (0, 1), (0, 0, 1), ("a", "bc"), ("ab", "c"), (0, {"c": 0})]
    calls += [[lambda f, a=a: f(*a)] for a in several]
    calls += [[lambda f, name=name: f(0, **{name: 0})] for name in ("c", "d", "rest")]
    function = cache.memoize()(fresh)
    results = [{call(function) for call in group} for group in calls]
    assert [len(result) for result in results] == [1] * len(calls)
    assert len(set().union(*results)) == len(calls)
    for group in calls:
        group[0](partial(cache.delete_memoized, function))
    assert not set().union(*results) & {group[-1](function) for group in calls}


@pytest.mark.parametrize("name", ["self", "f", "fn", "unless", "forced_update", "is_stale", "rv"])
def test_an_argument_may_have_any_name(bare: Flask, name: str) -> None:
    never = dict.fromkeys(("unless", "forced_update", "is_stale"), lambda *_, **__: False)
    call = cache.memoize(**never)(fresh)  # type: ignore[arg-type]
    assert call(1, **{name: 1}) == call(1, **{name: 1}) != call(1, **{name: 2})
    bare.add_url_rule(f"/<a>/<{name}>", "view", cache.memoize()(lambda **given: given))
    assert bare.test_client().get("/x/y").json == {"a": "x", name: "y"}


def test_an_argument_that_cannot_be_pickled_is_an_error_that_names_the_function() -> None:
    with pytest.raises(TypeError, match=r"fresh cannot be cached .* such as an object's id"):
        cache.memoize()(fresh)(lambda: None)


def test_ignored_arguments_do_not_count() -> None:
    call = cache.memoize(args_to_ignore=["a", "trace"])(fresh)
    first = call(lambda: 1, 5)
    assert [call(lambda: 2, 5), call(a=None, b=5, trace=object())] == [first] * 2
    assert call(None, 6) != first
    cache.delete_memoized(call, None, 5)
    assert call(None, 5) != first


def test_make_name_gives_the_name_in_the_key() -> None:
    plain = cache.memoize()(fresh).make_cache_key(fresh, 1)
    for made, same in ((f"{__name__}.fresh", True), ("v2", False)):
        named = cache.memoize(make_name={f"{__name__}.fresh": made}.__getitem__)(fresh)
        assert (named.make_cache_key(fresh, 1) == plain) == same


# What is kept.


def test_none_is_kept_and_an_error_is_not() -> None:
    answers = iter([True, False])

    @cache.memoize()
    def answer() -> None:
        assert not next(answers)

    with pytest.raises(AssertionError):
        answer()
    for _ in range(2):
        answer()


@pytest.mark.parametrize("decorator", [cache.cached, cache.memoize])
@pytest.mark.parametrize(
    ("parts", "joined"), [("ab", "ab"), ([b"a", b"b"], b"ab"), ([1, "a"], [1, "a"])]
)
def test_a_generator_is_kept_joined(decorator: Any, parts: Any, joined: Any) -> None:
    call = decorator()(lambda: (part for part in parts))
    assert [call(), call()] == [joined, joined]


@pytest.mark.parametrize("decorator", [cache.cached, cache.memoize])
@pytest.mark.parametrize("timeout", [60, timedelta(seconds=60), lambda: 60])
def test_each_result_lives_for_a_timeout_that_can_be_set_later(
    clock: Clock, decorator: Any, timeout: Any
) -> None:
    call = decorator(timeout=5)(fresh)
    assert call.cache_timeout == 5
    call.cache_timeout = timeout
    first = call(1)
    clock.forward(59)
    second = call(2)
    assert call(1) == first
    clock.forward(1)
    assert call(1) != first
    clock.forward(58)
    assert call(2) == second


@pytest.mark.parametrize("decorator", [cache.cached, cache.memoize])
@pytest.mark.parametrize("option", ["unless", "forced_update", "is_stale"])
def test_a_callable_decides_and_is_given_the_arguments(decorator: Any, option: str) -> None:
    asked: list[Any] = []
    answer = False

    def ask(*args: Any, **kwargs: Any) -> bool:
        asked.append((*args, kwargs))
        return answer

    call = decorator(**{option: ask})(fresh)
    first = call(1, b=2)
    assert call(1, b=2) == first
    before: Any = {"unless": [fresh], "forced_update": [], "is_stale": [first]}[option]
    assert asked == [(*before, 1, {"b": 2})] * (1 if option == "is_stale" else 2)
    asked.clear()
    answer = True
    second = call(1, b=2)
    answer = False
    assert (second != first, len(asked)) == (True, 1)
    assert call(1, b=2) == (first if option == "unless" else second)


def test_what_response_filter_refuses_is_not_kept() -> None:
    call = cache.memoize(response_filter=lambda result: result == last)(fresh)
    last = next(numbers) + 2
    assert [call(1), call(1), call(1)] == [last - 1, last, last]


def test_a_tag_drops_its_results() -> None:
    call = cache.memoize(tags=["posts"])(fresh)
    first = call(1)
    cache.invalidate("posts")
    assert call(1) != first


def test_the_old_result_is_given_while_one_caller_computes(clock: Clock) -> None:
    meanwhile: list[int] = []

    @cache.memoize(timeout=60, stale=30)
    def call() -> int:
        if clock.now == late:
            meanwhile.append(call())
        return next(numbers)

    late = clock.now + 60
    first = call()
    clock.forward(60)
    assert call() != first
    assert meanwhile == [first]


# delete_memoized.


def test_a_function_is_deleted_with_all_its_calls() -> None:
    call, other = cache.memoize()(fresh), Adder.of_none(1)
    delete_all: list[Any] = [
        partial(cache.delete_memoized, call),
        partial(cache.delete_memoized_verhash, call),
        call.delete_memoized,
    ]
    for delete in delete_all:
        before = {call(1), call(2)}
        delete()
        assert not before & {call(1), call(2)}
    assert Adder.of_none(1) == other


@pytest.mark.parametrize("arguments", [(), (1,)])
def test_a_result_that_is_deleted_while_it_is_computed_is_not_kept(arguments: Any) -> None:
    answers = iter(["old", "new"])

    @cache.memoize()
    def answer(n: int) -> str:
        found = next(answers)
        if found == "old":
            cache.delete_memoized(answer, *arguments)
        return found

    assert [answer(1), answer(1), answer(1)] == ["old", "new", "new"]


@pytest.mark.parametrize("other", ["call", len, cache.cached()(fresh)])
def test_what_is_not_memoized_cannot_be_deleted(other: Any) -> None:
    with pytest.raises(TypeError, match="a function that memoize decorates"):
        cache.delete_memoized(other)


# Methods.


@pytest.mark.parametrize("adder", [Adder, Row])
@pytest.mark.parametrize(
    ("delete", "stay"),
    [
        (lambda one: cache.delete_memoized(one.add), [False, False, True]),
        (lambda one: cache.delete_memoized(one.add, 1), [False, True, True]),
        (lambda one: cache.delete_memoized(one.add, one, 1), [False, True, True]),
        (lambda one: cache.delete_memoized(one.add, b=1), [False, True, True]),
        (lambda one: cache.delete_memoized(type(one).add, one, 1), [False, True, True]),
        (lambda one: cache.delete_memoized(type(one).add), [False, False, False]),
        (lambda one: one.add.delete_memoized(), [False, False, False]),
    ],
)
def test_an_instance_has_results_of_its_own(adder: Any, delete: Any, stay: list[bool]) -> None:
    def results() -> list[int]:
        return [adder(1).add(1), adder(1).add(2), adder(2).add(1)]

    before = results()
    assert (len({*before}), results()) == (3, before)
    delete(adder(1))
    assert [one == other for one, other in zip(before, results(), strict=True)] == stay


@pytest.mark.parametrize("name", ["add", "shared", "odd", "of_class", "of_none"])
@pytest.mark.parametrize("arguments", [(), (3,)])
def test_a_method_of_any_kind_can_be_deleted(name: str, arguments: Any) -> None:
    method = getattr(Adder(1), name)
    before = method(3), method(4)
    assert (getattr(Adder(2), name)(3) == before[0]) == (name not in ("add", "odd"))
    cache.delete_memoized(method, *arguments)
    assert (method(3) == before[0], method(4) == before[1]) == (False, bool(arguments))


def test_no_large_object_is_kept_with_the_tag_of_its_results() -> None:
    small, large = (Adder.add.memo_tag("x" * size) for size in (1, 1_000_000))  # type: ignore[attr-defined]
    assert len(small) == len(large)


def test_a_class_has_results_of_its_own_and_is_deleted_with_its_heirs() -> None:
    adder: Any = Adder.of_class
    heir: Any = Heir.of_class
    before = adder(1), heir(1)
    cache.delete_memoized(adder, Adder, 1)
    assert (adder(1) == before[0], heir(1) == before[1]) == (False, True)
    cache.delete_memoized(adder)
    assert heir(1) != before[1]


# Views.

PATHS = ["/item/1", "/item/1?page=2", "/item/2"]


@pytest.fixture
def client(bare: Flask) -> FlaskClient:
    @cache.memoize()
    def item(item: int) -> str:
        return str(next(numbers)) if item else abort(404)

    bare.add_url_rule("/item/<int:item>", "item", item, methods=["GET", "POST"])
    bare.add_url_rule("/login/<u>", "login", lambda u: session.update(user=u) or "")
    bare.add_url_rule("/me", "me", cache.memoize()(lambda: f"hello {session.get('user')}"))
    return bare.test_client()


def test_a_view_is_kept_by_the_rules_of_pages(client: FlaskClient) -> None:
    first = [client.get(path).text for path in PATHS]
    assert len({*first}) == len(PATHS)
    assert [client.get(path).text for path in PATHS] == first
    assert client.head("/item/1").headers["Cache-Status"] == "bare; hit; ttl=300"
    assert client.post("/item/1").headers["Cache-Status"] == "bare; fwd=method"
    for _ in range(2):
        assert client.get("/item/0").headers["Cache-Status"] == 'bare; fwd=miss; detail="error"'


def test_two_users_on_a_memoized_view_never_see_each_other(client: FlaskClient) -> None:
    users = {"alice": client, "bob": client.application.test_client()}
    for name, user in users.items():
        user.get(f"/login/{name}")
    for _ in range(2):
        assert [user.get("/me").text for user in users.values()] == ["hello alice", "hello bob"]


@pytest.mark.parametrize(("arguments", "stay"), [((1,), PATHS[2:]), ((), [])])
def test_a_view_is_deleted_by_its_arguments(client: FlaskClient, arguments: Any, stay: Any) -> None:
    before = {client.get(path).text for path in PATHS}
    view: Any = client.application.view_functions["item"]
    cache.delete_memoized(view, *arguments)
    assert [path for path in PATHS if client.get(path).text in before] == stay
