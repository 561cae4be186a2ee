"""What Flask-Caching documents, and what its own tests cover, in cases of our own.

What is otherwise on purpose stands in the README under "Differences from Flask-Caching". More cases
are in test_contract.py, test_pages.py, test_values.py and test_memoize.py.
"""

import asyncio
import hashlib
import inspect
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cachelib
import flask_caching
import pytest
from cachelib.serializers import JSONSerializer
from flask import Flask, render_template_string, request, session
from flask.testing import FlaskClient
from flask.views import View
from flask_caching import make_template_fragment_key, signals
from flask_caching.backends import FileSystemCache, NullCache, SimpleCache

from shop.caching.cache import Cache
from tests.engine import inside
from tests.engine.fixtures import Clock
from tests.engine.inside import backend_of

if TYPE_CHECKING:
    Unknown = int

numbers = count()


def fresh(*_: Any, **__: Any) -> int:
    """Return another number at each call."""
    return next(numbers)


def page(*_: Any, **__: Any) -> str:
    """Return another page at each call."""
    return str(next(numbers))


@pytest.fixture
def client(bare: Flask, cache: Cache) -> FlaskClient:
    return bare.test_client(use_cookies=False)


# Setting up.


@pytest.mark.parametrize("name", ["cached", "memoize"])
def test_positional_parameters_are_flask_cachings(name: str) -> None:
    stock, ours = (
        [(p.name, p.default) for p in inspect.signature(method).parameters.values() if p.kind < 3]
        for method in (getattr(flask_caching.Cache, name), getattr(Cache, name))
    )
    assert ours == stock


def later(app: Flask, settings: Any = None, **options: Any) -> Cache:
    cache = Cache(**options)
    cache.init_app(app, settings)
    return cache


def lasting(timeout: Any) -> dict[str, Any]:
    return {"CACHE_DEFAULT_TIMEOUT": timeout}


@pytest.mark.parametrize(
    ("make", "timeout"),
    [
        (lambda app: Cache(app), 5),
        (lambda app: Cache(app, config=lasting(10)), 10),
        (lambda app: later(app), 5),
        (lambda app: later(app, config=lasting(10)), 10),
        (lambda app: later(app, lasting(timedelta(seconds=15))), 15),
        (lambda app: later(app, lasting(15), config=lasting(10)), 15),
    ],
)
def test_settings_come_from_the_app_the_cache_or_init_app(
    bare: Flask, clock: Clock, make: Any, timeout: int
) -> None:
    bare.config |= lasting(5)
    cache: Cache = make(bare)
    cache.clock = clock
    assert cache.app is bare
    with bare.app_context():
        cache.set("k", "v")
        clock.forward(timeout - 1)
        assert cache.get("k") == "v"
        clock.forward(1)
        assert cache.get("k") is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("text", "dict"),
        ({"CACHE_HASH_METHOD": "sha256"}, "CACHE_HASH_METHOD"),
        ({"CACHE_SERIALIZER": "json"}, "CACHE_SERIALIZER"),
        ({"CACHE_SERIALIZER": object}, "BaseSerializer"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(bare: Flask, config: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Cache(bare, config=config)
    with pytest.raises(ValueError, match=message):
        Cache().init_app(bare, config)


def test_a_cache_keeps_several_apps_apart_and_an_app_several_caches(
    bare: Flask, cache: Cache
) -> None:
    prefix = bare.config["CACHE_KEY_PREFIX"]
    other = Flask("other")
    other.config |= bare.config | {"CACHE_KEY_PREFIX": f"{prefix}2"}
    cache.init_app(other)
    second = Cache(bare, config={"CACHE_KEY_PREFIX": f"{prefix}3"})
    places = [(bare, cache), (other, cache), (bare, second)]
    for number, (app, one) in enumerate(places):
        with app.app_context():
            one.set("k", number)
    for number, (app, one) in enumerate(places):
        with app.app_context():
            assert one.get("k") == number


class OwnBackend(SimpleCache):
    """A backend that an app brings along."""


def own_factory(app: Flask, config: Any, args: Any, kwargs: Any) -> SimpleCache:
    return OwnBackend(*args, **kwargs)


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("SimpleCache", SimpleCache),
        ("flask_caching.backends.SimpleCache", SimpleCache),
        ("cachelib.SimpleCache", cachelib.SimpleCache),
        (f"{__name__}.OwnBackend", OwnBackend),
        (f"{__name__}.own_factory", OwnBackend),
    ],
)
def test_a_backend_is_a_name_a_class_or_a_function(bare: Flask, kind: str, made: Any) -> None:
    cache = Cache(bare, config={"CACHE_TYPE": kind, "CACHE_OPTIONS": {"threshold": 7}})
    with bare.app_context():
        assert type(backend_of(cache)) is made
        kept = cache.memoize()(fresh)
        assert kept(1) == kept(1) != kept(2)


@pytest.mark.parametrize("serializer", [JSONSerializer, JSONSerializer()])
def test_a_serializer_writes_the_values(bare: Flask, serializer: Any) -> None:
    settings = {"CACHE_SERIALIZER": serializer, "CACHE_NO_NULL_WARNING": True}
    cache = Cache(bare, config={"CACHE_TYPE": "SimpleCache", **settings})
    with bare.app_context():
        cache.set("k", {"a": [1, None]})
        assert cache.get("k") == {"a": [1, None]}
        kept = cache.memoize()(fresh)
        assert kept(1) == kept(1)
        assert isinstance(backend_of(cache).serializer, JSONSerializer)
    with pytest.warns(UserWarning, match="CACHE_SERIALIZER"):
        Cache(bare, config={"CACHE_TYPE": "NullCache", **settings})


def test_without_a_type_a_warning_says_that_nothing_is_kept() -> None:
    with pytest.warns(UserWarning, match="NullCache"):
        Cache(Flask("app"))


def test_a_subclass_sees_what_is_asked_of_the_cache(bare: Flask) -> None:
    class Traced(Cache):
        def get(self, key: str) -> Any:
            asked.append(key)
            return super().get(key)

    asked: list[str] = []
    cache = Traced(bare)
    with bare.app_context():
        assert cache.get("k") is None
        assert cache.memoize()(fresh)(1) == cache.memoize()(fresh)(1)
    assert asked == ["k"]


# Functions.


def test_a_key_has_a_called_prefix_the_path_or_the_query(bare: Flask, cache: Cache) -> None:
    kept = cache.cached(key_prefix=lambda: f"100%s of {request.args['a']}")(fresh)
    others = [
        cache.cached(key_prefix="bits/%s")(fresh),
        cache.cached(key_prefix="bits", query_string=True)(fresh),
    ]
    with bare.test_request_context("/x?a=1&b=2"):
        assert kept() == kept() == cache.get("100%s of 1")
        first = [other() for other in others]
    with bare.test_request_context("/x?b=2&a=1"):
        assert [other() for other in others] == first
    with bare.test_request_context("/y?a=2"):
        assert kept() != cache.get("100%s of 1")
        assert not {*first} & {other() for other in others}


def test_make_cache_key_is_given_the_arguments_and_makes_the_key(cache: Cache) -> None:
    kept = cache.cached(make_cache_key=lambda a, b: f"sum {a + b}")(fresh)
    assert kept(1, b=2) == kept(2, b=1) == cache.get("sum 3") != kept(2, b=2)


@pytest.mark.parametrize("method", [*flask_caching.SUPPORTED_HASH_FUNCTIONS, None])
def test_keys_are_made_with_the_hash_method_of_choice(bare: Flask, method: Any) -> None:
    cache = Cache(config={"CACHE_HASH_METHOD": hashlib.sha384})  # not known before init_app
    cached, memoized = (d(hash_method=method)(fresh) for d in (cache.cached, cache.memoize))
    cache.init_app(bare)
    keys = cached.make_cache_key(1), memoized.make_cache_key(fresh, 1)
    digits = (method or hashlib.sha384)().digest_size * 2
    assert [len(key.partition(":")[2]) for key in keys] == [digits, digits]
    with bare.app_context():
        assert (cached(1), memoized(1)) == (cached(1), memoized(1))


@pytest.mark.parametrize(("option", "setting"), [(None, True), (True, False), (False, True)])
@pytest.mark.parametrize("method", ["cached", "memoize"])
def test_source_check_makes_the_source_count(
    bare: Flask, option: Any, setting: bool, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(bare, config={"CACHE_SOURCE_CHECK": setting})
    decorate: Any = getattr(cache, method)(source_check=option)

    def edited(*_: Any, **__: Any) -> int:
        return 1 + next(numbers)

    edited.__qualname__ = fresh.__qualname__
    edited.__code__ = edited.__code__.replace(co_qualname=fresh.__qualname__)
    with bare.app_context():
        first = decorate(fresh)()
        assert decorate(fresh)() == first
        inside.forget_functions(monkeypatch)
        assert (decorate(edited)() == first) == (option is False)


def test_delete_cached_and_unlink_drop_entries(cache: Cache) -> None:
    kept = cache.cached()(fresh)
    first = kept(1, b=2)
    assert cache.delete_cached(kept, 1, b=2)
    assert kept(1, b=2) != first
    cache.set("k", "v")
    cache.unlink("k", "nothing")
    assert not cache.has("k")


def test_an_annotation_may_name_what_only_a_type_checker_knows(cache: Cache) -> None:
    def function(n: "Unknown") -> int:
        return next(numbers)

    for decorate in (cache.cached(), cache.memoize(unless=lambda *_: False)):
        assert decorate(function)(1) == decorate(function)(1)


# Views.


def test_a_class_of_views_is_cached(bare: Flask, cache: Cache, client: FlaskClient) -> None:
    class Item(View):
        @cache.cached()
        def dispatch_request(self, item: int = 0) -> str:
            return page()

    bare.add_url_rule("/<int:item>", view_func=Item.as_view("item"))
    assert client.get("/1").text == client.get("/1").text != client.get("/2").text


@pytest.mark.parametrize("method", ["cached", "memoize"])
def test_async_functions_and_views_work(
    bare: Flask, cache: Cache, client: FlaskClient, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bare, "async_to_sync", lambda f: lambda *a, **k: asyncio.run(f(*a, **k)))

    async def view(n: int) -> str:
        await asyncio.sleep(0)
        return page()

    kept: Any = getattr(cache, method)()(view)
    bare.add_url_rule("/<int:n>", "view", kept)
    assert client.get("/1").text == client.get("/1").text != client.get("/2").text
    assert client.get("/1").headers["Cache-Status"] == "bare; hit; ttl=300"
    assert kept(1) == kept(1) != kept(2)


def given_b(*_: Any) -> bool:
    return request.headers["X"] == "b"


@pytest.mark.parametrize(
    "options",
    [
        {"key_prefix": lambda: request.headers["X"]},
        {"make_cache_key": lambda n: request.headers["X"] + str(n)},
        {"unless": lambda view, n: given_b(view.__name__, n + 1)},
        {"forced_update": lambda n: given_b(n + 1)},
        {"is_stale": lambda response, n: given_b(response.status_code, n + 1)},
        {"response_filter": lambda response: not given_b(response.status_code), "vary": ["X"]},
    ],
)
def test_callables_of_a_view_see_the_request(
    bare: Flask, cache: Cache, client: FlaskClient, options: Any
) -> None:
    bare.add_url_rule("/<int:n>", "page", cache.cached(**options)(page))
    first, again, other = (client.get("/1", headers={"X": x}).text for x in "aab")
    assert first == again != other


# Fragments of templates.


def show(arguments: str, value: str) -> str:
    """Render a template with one fragment."""
    template = f"<% cache {arguments} %><< value >><% endcache %>"
    for angle, brace in zip("<>", "{}", strict=True):
        template = template.replace(angle, brace)
    return render_template_string(template, value=value, b="of b")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("60, 'name'", ["name"]),
        ("5 * 60, 'name', 'a', b", ["name", ["a", "of b"]]),
        ("None, 'name'", ["name"]),
        ("60", ["None1"]),
    ],
)
def test_a_fragment_is_kept_under_its_names(
    bare: Flask, cache: Cache, arguments: str, names: Any
) -> None:
    key = make_template_fragment_key(*names)
    with bare.test_request_context():
        assert [show(arguments, "one"), show(arguments, "two"), cache.get(key)] == ["one"] * 3
        cache.delete(key)
        assert [show(arguments, "two"), show(arguments, "three")] == ["two"] * 2
        if "name" in names:
            _, _, same = arguments.partition(",")
            assert [show(f"'del', {same}", "three"), cache.get(key)] == ["three", None]


def test_a_fragment_expires(bare: Flask, cache: Cache, clock: Clock) -> None:
    with bare.test_request_context():
        for value, shown in (("one", "one"), ("two", "one"), ("three", "three")):
            assert show("60, 'name'", value) == shown
            clock.forward(30)


# Signals.


@pytest.fixture
def sent() -> Iterator[list[Any]]:
    """Return the signals that are sent while a test runs: their names and what they carry."""
    sent: list[Any] = []
    with ExitStack() as stack:
        for name in ("view_hit", "view_miss", "memoize_hit", "memoize_miss"):
            receiver = partial(lambda name, _, **about: sent.append((name, about)), name)
            stack.enter_context(getattr(signals, f"cache_{name}").connected_to(receiver))
            stack.callback(id, receiver)  # signals hold it weakly
        yield sent


def test_signals_tell_hits_from_misses(bare: Flask, sent: list[Any]) -> None:
    cache = Cache(bare, config={"CACHE_ENABLE_SIGNALS": True})
    bare.add_url_rule("/<name>", "page", cache.cached()(page))
    for path in ("/a", "/b", "/a"):
        bare.test_client().get(path)
    assert [name for name, _ in sent] == ["view_miss", "view_miss", "view_hit"]
    keys = [about["cache_key"] for _, about in sent]
    assert keys[0] == keys[2] != keys[1]
    assert sent[1][1] == {"cache": cache, "cache_key": keys[1], "args": (), "kwargs": {"name": "b"}}
    sent.clear()
    on = {"": False, "forced": False, "stale": False}
    kept = cache.memoize(forced_update=lambda: on["forced"], is_stale=lambda _: on["stale"])(fresh)
    with bare.app_context():
        kept(1, b=2)
        for flag in on:
            on[flag] = True
            kept(1, b=2)
            on[flag] = False
        key = kept.make_cache_key(fresh, 1, b=2)
    about = {"cache": cache, "cache_key": key, "f": fresh, "args": (1,), "kwargs": {"b": 2}}
    assert sent == [(f"memoize_{name}", about) for name in ("miss", "hit", "miss", "miss")]


def test_signals_are_off_by_default_and_a_receiver_that_raises_harms_nothing(
    cache: Cache, sent: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    kept = cache.memoize()(fresh)
    kept(1)
    assert sent == []
    cache.enable_signals = True
    with signals.cache_memoize_hit.connected_to(lambda _, **__: 1 // 0):
        assert kept(1) == kept(1)
    assert "ZeroDivisionError" in caplog.text


# Flask-Caching's own backends.


@pytest.fixture(params=[SimpleCache, FileSystemCache, NullCache])
def stock(
    request: pytest.FixtureRequest,
    bare: Flask,
    clock: Clock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    """Return a cache on a backend of Flask-Caching, and whether that keeps anything."""
    for module in (cachelib.simple, cachelib.file):
        monkeypatch.setattr(module, "time", clock)
    bare.config |= {"CACHE_TYPE": request.param.__name__, "CACHE_DIR": str(tmp_path / "files")}
    cache = Cache(bare, config={"CACHE_NO_NULL_WARNING": True})
    cache.clock = clock
    with bare.app_context():
        assert type(backend_of(cache)) is request.param
        yield cache, request.param is not NullCache


def test_values_on_a_stock_backend(stock: Any, clock: Clock) -> None:
    cache, keeps = stock
    assert [cache.set("v", ["v"], 10), cache.set("i", 7, 10), cache.add("n", 1)] == [True] * 3
    assert cache.set_many({"a": 1, "b": None}, 10) == ["a", "b"]
    assert cache.get_many("v", "i", "c") == ([["v"], 7, None] if keeps else [None] * 3)
    assert [cache.has(key) for key in "abc"] == [keeps, keeps, False]
    assert cache.add("n", 2) != keeps
    assert [cache.inc("n"), cache.dec("n", 3)] == ([2, -1] if keeps else [1, -3])
    clock.forward(11)
    assert not any(cache.has(key) for key in "viab")
    cache.set_many(dict.fromkeys("klm", "v"))
    assert cache.delete("k")
    assert cache.delete_many("l", "nothing") == ["l", "nothing"]
    assert [cache.has(key) for key in "klmn"] == [False, False, keeps, keeps]
    assert cache.clear()
    assert not cache.has("m")


def test_what_cannot_be_stored_harms_nothing_else_on_a_stock_backend(stock: Any) -> None:
    cache, keeps = stock
    for _ in range(5):
        cache.set("bad", (n for n in range(5)))
    for _ in range(5):
        assert cache.get("bad") is None
    cache.set("k", "v")
    assert cache.has("k") == keeps


def test_memoize_and_tags_on_a_stock_backend(stock: Any) -> None:
    cache, keeps = stock
    call = cache.memoize(tags=["t"])(fresh)
    for delete, arguments in (
        (cache.delete_memoized, (call, 1)),
        (cache.delete_memoized, (call,)),
        (cache.invalidate, ("t",)),
    ):
        first = call(1)
        assert (call(1) == first, call(2) == first) == (keeps, False)
        delete(*arguments)
        assert call(1) != first


def test_pages_are_safe_on_a_stock_backend(stock: Any, bare: Flask) -> None:
    cache, keeps = stock
    bodies: dict[str, Any] = {
        "/page": page,
        "/gone": lambda: (page(), 404),
        "/vary": lambda: (page(), {"Vary": "X"}),
        "/x": lambda: request.headers["X"],
        "/me": lambda: f"hello {session.get('user')}",
    }
    for path, body in bodies.items():
        bare.add_url_rule(path, path, cache.cached(vary=["X"] if path == "/x" else [])(body))
    bare.add_url_rule("/login/<u>", "login", lambda u: session.update(user=u) or "")
    users = {name: bare.test_client() for name in ("alice", "bob", "None")}
    anyone = users["None"]
    for name in ("alice", "bob"):
        users[name].get(f"/login/{name}")
    for _ in range(2):
        for name, client in users.items():
            assert client.get("/me").text == f"hello {name}"
            assert client.get("/x", headers={"X": name}).text == name
    for path, kept in (("/page", keeps), ("/gone", False), ("/vary", False)):
        assert anyone.head(path).headers["Cache-Status"].startswith("bare; fwd=miss; detail=")
        assert (anyone.get(path).text == anyone.get(path).text) == kept
    assert anyone.head("/page").headers["Cache-Status"].startswith("bare; hit") == keeps


# The backend itself, as `cache.cache`.


def check_face(cache: Cache, keeps: bool) -> None:
    face = cache.cache
    assert face.set("k", ("v", 1))
    assert face.set_many({"a": ["v"], "b": 2}) == ["a", "b"]
    assert face.add("c", {"v": 3}) == face.add("d", 4)
    values: list[Any] = [("v", 1), ["v"], 2, {"v": 3}, 4]
    assert face.get_many(*"kabcd") == (values if keeps else [None] * 5)
    assert [face.get(key) for key in "kabcd"] == face.get_many(*"kabcd")


def test_the_face_of_a_backend_needs_no_timeout(cache: Cache) -> None:
    check_face(cache, True)


def test_the_face_of_a_stock_backend_needs_no_timeout(stock: Any, clock: Clock) -> None:
    cache, keeps = stock
    check_face(cache, keeps)
    clock.forward(299)
    assert cache.cache.get("k") == (("v", 1) if keeps else None)
    clock.forward(2)
    assert cache.cache.get("k") is None


def test_attributes_of_the_backend_can_be_set(cache: Cache, clock: Clock) -> None:
    cache.cache.default_timeout = 7
    assert backend_of(cache).default_timeout == cache.cache.default_timeout == 7
    cache.set("k", "v")
    clock.forward(6.9)
    assert cache.get("k") == "v"
    clock.forward(0.1)
    assert cache.get("k") is None


@pytest.mark.parametrize("kind", [SimpleCache, FileSystemCache])
def test_a_serializer_can_be_set_later(bare: Flask, kind: Any, tmp_path: Path) -> None:
    settings = {"CACHE_TYPE": kind.__name__, "CACHE_DIR": str(tmp_path)}
    cache = Cache(bare, config=settings)
    with bare.app_context():
        cache.cache.serializer = serializer = JSONSerializer()
        assert backend_of(cache).serializer is serializer
        for value in ("v", {"a": [1, (2, None)]}, 5):
            assert cache.set("k", value)
            assert cache.get("k") == value
