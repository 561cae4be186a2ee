"""Keys tell functions and arguments apart, and are the same in every process."""

import enum
import functools
import json
import logging
import math
import os
import re
import subprocess
import sys
import threading
from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from itertools import count
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import ForeignKey
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    attribute_keyed_dict,
    mapped_column,
    relationship,
)

from shop.caching.cache import Cache
from shop.models import User, db, fill
from shop.models import bp as database
from tests.baking import ROOT
from tests.engine import inside

Call = Callable[..., Any]
numbers = count()


# Functions.


@dataclass
class Point:
    """A value, and an object with methods."""

    x: Any = 0

    def number(self) -> int:
        return next(numbers)

    @classmethod
    def of_class(cls) -> int:
        return next(numbers)

    def __call__(self) -> int:
        return next(numbers)


class Other(Point):
    """Inherits the methods."""


class Color(enum.Enum):
    """Constants."""

    RED = 1
    BLUE = 2


def closure(value: Any) -> Call:
    return lambda: [next(numbers), id(value)]


def deep(value: Any) -> Call:
    def outer() -> Call:
        return lambda: [next(numbers), id(value)]

    return outer()


def local_class(value: str) -> type:
    class Local:
        text = value

        def shown(self) -> str:
            return self.text

        @classmethod
        def of_class(cls) -> str:
            return cls.text

        @staticmethod
        def plain() -> str:
            return value

    return Local


def local_enum(value: int) -> Any:
    class Local(enum.Enum):
        ONE = value

    return Local.ONE


def number(*_: Any, **__: Any) -> int:
    return next(numbers)


class Again:
    """A decorator that is a class."""

    def __init__(self, function: Call, tries: int = 1) -> None:
        functools.update_wrapper(self, function)
        self.function, self.tries = function, tries

    def __call__(self) -> Any:
        return [self.function() for _ in range(self.tries)][-1]


def local_decorator(tries: int) -> type[Again]:
    class Local(Again):
        def __call__(self) -> list[Any]:
            return [self.function() for _ in range(tries)]

    return Local


def in_a_row(*steps: Call) -> Call:
    return lambda: [number(), *(step() for step in steps)]


def with_attribute(value: Any) -> Call:
    def function() -> list[Any]:
        return [number(), *vars(function).values()]

    vars(function)["value"] = value
    return function


def twice(function: Call) -> Call:
    return functools.wraps(function)(lambda: [function(), function()])


def times(count: int) -> Callable[[Call], Call]:
    def decorate(function: Call) -> Call:
        return functools.wraps(function)(lambda: [function() for _ in range(count)])

    return decorate


def itself() -> Call:
    def again(n: int = 0) -> Any:
        return again(n + 1) if n < 2 else next(numbers)

    return again


def functions() -> list[Call]:
    """Return functions that must not share a result, made anew, as another process does."""
    values: list[Any] = [None, True, 1, 1.0, "1", b"1", (1,), [1], {"1", "2", "3"}, {"1": 1}]
    values += [frozenset("ab"), Decimal(1), date(2027, 1, 1), re.compile("a"), Color.RED]
    values += [Point(1), Point(2), Other(1), Color.BLUE, int, str, Point, math, json, len, max]
    values += ["a".upper, Point().number, partial(pow, 2), partial(pow, 3), itself()]
    values += [logging.getLogger("a"), logging.getLogger("b"), lambda: 1, lambda: 2]
    values += [closure(1), closure(closure(1)), [closure(1)], {"f": lambda: 5}]
    values += [local_class("a"), local_class("b"), local_enum(1), local_enum(2)]
    values += [twice(number), times(2)(number), type(local_enum(1))]
    values += [Cache().memoize()(closure(3)), Cache().cached()(closure(4))]
    made: list[Call] = [make(value) for value in values for make in (closure, deep)]
    made += [lambda: [number(), 1], lambda: [number(), 2], lambda: [number(), "1"]]
    made += [lambda: [number(), 1.0], lambda: [number(), True], lambda: [number(), int]]
    made += [lambda: [number(), str], lambda: number() in {1, 2, 3}, lambda: number(a=1)]
    made += [lambda: number(b=1), lambda: [lambda: 1, number()][1]]
    made += [lambda: [lambda: 2, number()][1]]
    made += [lambda n=n: [number(), n] for n in range(3)]
    made += [lambda *, n=n: [n, number()] for n in range(3)]
    made += [partial(number, 1), partial(number, 2), partial(number, "1"), partial(number, n=1)]
    made += [partial(partial(number, 1), 2), partial(partial(number, n=1), m=2)]
    made += [partial(lambda n: number(), 3), partial(lambda n: number(n), 3), partial(Point(3))]
    made += [Point(1).number, Point(2).number, Other(1).number, Point.of_class, Other.of_class]
    made += [Point(1), Point(2), Other(1), "a".upper, "b".upper, "a".lower, [1].copy, [{2}].copy]
    made += [twice(number), times(2)(number), times(3)(number), twice(twice(number)), itself()]
    made += [twice(Point(1).number), partial(math.gcd, 4), os.getpid]
    # In a function's place, and with its name.
    made += [functools.cache(closure(n)) for n in (1, 2)] + [functools.cache(lambda: number())]
    made += [staticmethod(closure(n)) for n in (1, 2)] + [closure(staticmethod(closure(5)))]
    made += [Again(closure(1)), Again(closure(2)), Again(closure(1), 2), closure(Again(closure(6)))]
    made += [local_decorator(n)(closure(1)) for n in (1, 2)] + [Again(functools.cache(closure(1)))]
    made += [closure(functools.cache(closure(n))) for n in (7, 8)]
    one, other = lambda: 1, lambda: 2
    made += [in_a_row(one, other, other), in_a_row(one, other, one), in_a_row(one, one, other)]
    made += [in_a_row(twice(one), twice(one)), in_a_row(twice(one), twice(other))]
    made += [with_attribute(n) for n in (1, 2)] + [closure(with_attribute(n)) for n in (1, 2)]
    made += [partial(kind.fromkeys, "ab") for kind in (dict, UserDict, OrderedDict, defaultdict)]
    made += [date.today, datetime.today, datetime.now, partial(int.from_bytes, b"1")]
    made += [int.mro, partial(str.maketrans, {1: 2}), partial(bytes.maketrans, b"1", b"2")]
    return made


def keys(kind: str) -> list[str]:
    """Return the keys of a call of each of `functions`."""
    cache = Cache(Flask("bare"), config={"CACHE_TYPE": "SimpleCache"})
    kept = [getattr(cache, kind)()(function) for function in functions()]
    return [one.make_cache_key(*[one] * (kind == "memoize")) for one in kept]


KINDS = ("cached", "memoize")


@pytest.mark.parametrize("kind", KINDS)
def test_functions_that_differ_share_no_result(cache: Cache, kind: str) -> None:
    kept = [getattr(cache, kind)()(function) for function in functions()]
    assert len(kept) == len(set(keys(kind)))
    results = [one() for one in kept]
    assert [one() for one in kept] == results
    assert [getattr(cache, kind)()(function)() for function in functions()] == results


def registered(decorate: Callable[[Call], Call]) -> list[Call]:
    """Return functions of one name, as decorators that register them leave them in a module."""
    text = "def _():\n    return {!r}\n"
    spaces: list[dict[str, Any]] = [{"__name__": __name__} for _ in "abc"]
    for name, space in zip("abc", spaces, strict=True):
        exec(text.format(name), space)
    return [decorate(space["_"]) for space in spaces]


@pytest.mark.parametrize("decorate", [lambda f: f, functools.cache, staticmethod, Again])
@pytest.mark.parametrize("kind", KINDS)
def test_functions_of_one_name_are_told_apart(
    cache: Cache, kind: str, decorate: Callable[[Call], Call]
) -> None:
    kept = [getattr(cache, kind)()(function) for function in registered(decorate)]
    assert [[one() for one in kept] for _ in range(2)] == [["a", "b", "c"]] * 2


def test_keys_are_the_same_in_another_process() -> None:
    command = (
        "from tests.engine import test_keys as t; print(t.json.dumps([*map(t.keys, t.KINDS)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", command],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "1", "FLASK_SECRET_KEY": "for tests"},
        capture_output=True,
        check=True,
        text=True,
    )
    assert json.loads(done.stdout) == [*map(keys, KINDS)]


def test_recursive_local_functions_are_kept(cache: Cache) -> None:
    @cache.memoize()
    def factorial(n: int) -> int:
        runs.append(n)
        return n * factorial(n - 1) if n else 1

    @cache.memoize()
    def is_even(n: int) -> bool:
        return is_odd(n - 1) if n else True

    @cache.memoize()
    def is_odd(n: int) -> bool:
        return is_even(n - 1) if n else False

    runs: list[int] = []
    assert [factorial(4), factorial(4), factorial(5)] == [24, 24, 120]
    assert runs == [4, 3, 2, 1, 0, 5]
    assert [is_even(4), is_odd(4), is_even(3), is_odd(3)] == [True, False, False, True]


def test_functions_of_create_app_are_kept_and_a_warning_names_variables_that_cannot_be_pickled(
    bare: Flask, cache: Cache, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    inside.forget_warnings(monkeypatch)
    logger, lock, counter, calls = logging.getLogger("of the app"), threading.Lock(), 0, count()

    def plain(n: int) -> list[int]:
        nonlocal counter
        counter += 1
        logger.debug("plain")
        return [counter, n]

    def with_app(n: int) -> list[Any]:
        return [next(calls), n, bare.name]

    def with_database(n: int) -> list[Any]:
        return [next(calls), n, connected is db]

    def with_lock(n: int) -> list[int]:
        with lock:
            return [next(calls), n]

    connected = db
    for function, name in (
        (plain, ""),
        (with_app, "bare"),
        (with_database, "connected"),
        (with_lock, "lock"),
    ):
        for decorate in (cache.memoize(), cache.cached()):
            kept = decorate(function)
            assert kept(1) == kept(1) != kept(2)
        told = [text for text in caplog.messages if f"<locals>.{function.__name__} uses" in text]
        assert [f"pickled: {name} (" in text for text in told] == [True] * bool(name)
        memoized = cache.memoize()(function)
        for arguments in ((1,), ()):
            first = memoized(1)
            cache.delete_memoized(memoized, *arguments)
            assert memoized(1) != first


@pytest.mark.parametrize("decorate", [functools.cache, staticmethod, Again, in_a_row])
def test_a_warning_names_the_attribute_that_cannot_be_pickled_of_an_object_around_a_function(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, caplog: Any, decorate: Callable[[Call], Call]
) -> None:
    inside.forget_warnings(monkeypatch)
    lock = threading.Lock()
    kept = [cache.memoize()(decorate(lambda: [next(numbers), id(lock)])) for _ in range(2)]
    assert [one() for one in kept] == [one() for one in kept]
    assert kept[0]() != kept[1]()
    assert "cannot be pickled: " in caplog.text


@pytest.mark.parametrize(
    "function",
    [
        partial(number, threading.Lock()),
        partial(number, key=lambda: 1),
        partial(partial(number, n=open), threading.Lock()),
        Point(threading.Lock()),
        Point(threading.Lock()).number,
        partial(Point(lambda: 1).number),
    ],
)
def test_functions_that_cannot_be_told_apart_are_an_error_when_they_are_decorated(
    cache: Cache, function: Call
) -> None:
    with pytest.raises(TypeError, match="one of which cannot be pickled"):
        cache.memoize()(function)


# Arguments that contain themselves.


class Model(DeclarativeBase):
    """The base of the tables."""


class Author(Model):
    """Has books, which know it, as a list, a set and a dict."""

    __tablename__ = "authors"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    listed: Mapped[list["Listed"]] = relationship(back_populates="author")
    among: Mapped[set["Among"]] = relationship(back_populates="author")
    named: Mapped[dict[str, "Named"]] = relationship(
        back_populates="author", collection_class=attribute_keyed_dict("title")
    )


class Book:
    """What the books have in common."""

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))


class Listed(Book, Model):
    """A book in a list."""

    __tablename__ = "listed"
    author: Mapped[Author] = relationship(back_populates="listed")


class Among(Book, Model):
    """A book in a set."""

    __tablename__ = "among"
    author: Mapped[Author] = relationship(back_populates="among")


class Named(Book, Model):
    """A book in a dict."""

    __tablename__ = "named"
    author: Mapped[Author] = relationship(back_populates="named")


class Node:
    """A node of a graph."""

    def __init__(self, name: Any, *nodes: "Node") -> None:
        self.name, self.nodes = name, {*nodes}
        for node in nodes:
            node.nodes.add(self)


def listed(title: Any) -> Any:
    value: list[Any] = [1, title]
    value.append(value)
    return value


def mapped(title: Any) -> Any:
    value: dict[str, Any] = {"title": title, "more": [(1, 2)]}
    value["more"].append({"back": value})
    return value


def twins(title: Any) -> Any:
    pair = [Node("one"), Node(title)]
    pair[0].nodes.add(pair[1])
    pair[1].nodes.add(pair[0])
    return tuple(pair)


CIRCLES: list[Callable[[Any], Any]] = [
    lambda title: Author(name="Ada", listed=[Listed(title="a"), Listed(title=title)]),
    lambda title: Author(name="Ada", listed=[Listed(title=title)]).listed[0],
    lambda title: Author(name="Ada", among={Among(title=title)}),
    lambda title: [*Author(name=title, among={Among(title="a")}).among],
    lambda title: Author(name="Ada", named={title: Named(title=title)}),
    lambda title: {"author": Author(name=title, listed=[Listed(title="a")]), "n": 1},
    listed,
    mapped,
    lambda title: Node("root", Node(title)),
    lambda title: [Node(title, Node("leaf")), title],
    twins,
]


@pytest.mark.parametrize("make", CIRCLES)
@pytest.mark.parametrize("kind", KINDS)
def test_arguments_that_contain_themselves_count_by_their_contents(
    cache: Cache, make: Callable[[Any], Any], kind: str
) -> None:
    kept = getattr(cache, kind)()(number)
    titles = ["title", "other", "", "a"]
    first = [kept(make(title)) for title in titles]
    assert len({*first}) == len(titles)
    assert [kept(make("".join([*title]))) for title in titles] == first
    assert kept(n=make("title")) != kept(make("title"), make("title"))


def test_arguments_with_several_members_in_sets_are_accepted(cache: Cache) -> None:
    kept = cache.memoize()(number)
    authors = [Author(name=n, among={Among(title=n), Among(title="b")}) for n in "ac"]
    nodes = [Node(n, Node(1), Node(2), Node(3)) for n in "ac"]
    results = [kept(value) for value in (*authors, *nodes, authors, nodes)]
    assert len({*results}) == len(results)
    assert [kept(value) for value in (*authors, *nodes, authors, nodes)] == results


def test_an_argument_that_a_commit_expired_counts_by_its_contents(
    bare: Flask, cache: Cache
) -> None:
    bare.register_blueprint(database)
    hello = cache.memoize()(lambda user: f"hello {user.name}")
    with bare.app_context():
        fill()
        user = db.session.get_one(User, 1)
        for name in ("Ada", "Bo", "Cy", "Ada"):
            user.name = name
            db.session.commit()
            assert hello(user) == f"hello {name}"
