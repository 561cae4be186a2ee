"""The 24 faults of the usual recipe: each is shown to be in stock Flask-Caching, and not here.

A test runs on "ours", the project's backend; on "ours, stock type", a backend of Flask-Caching
under our cache, unless NOT_ON_STOCK tells why not; and on "stock", Flask-Caching as it comes.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.parse
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import flask_caching
import pytest
from cachelib.serializers import JSONSerializer
from flask import Flask, Response, abort, request, session
from flask.sessions import SecureCookieSessionInterface
from flask_caching import signals
from flask_caching.backends import FileSystemCache
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse
from werkzeug.utils import ImportStringError

from shop import create_app
from shop.caching import LRUCache
from shop.caching.cache import Cache
from shop.settings import Settings, SettingsError
from tests.engine import inside
from tests.engine.fixtures import Clock
from tests.engine.test_contract import together

#: What cannot hold where CACHE_TYPE names a backend of Flask-Caching. Others hold in part there: 3,
#: since a key that the app itself makes of a request reaches the server as it is; 4 and 5, since
#: the client waits as it was told to until the breaker opens; 7, among the threads of one process,
#: for there is no lease that other processes see; and 19, for pages: what a function returns is
#: what the serializer makes of it.
NOT_ON_STOCK = {
    13: "what is evicted is up to the backend",
    14: "so it is, and what never expires goes first",
    15: "`clear` is the backend's: it may flush a server, or empty a folder",
    16: "files are counted, added and incremented in several steps",
    18: "the backend pickles, and signs nothing",
    22: "`add` may be two commands",
    24: "memory does not tell whether it has siblings",
}
STOCK = {"CACHE_TYPE": "SimpleCache"}
BOUND = 50

PAGES, VALUES = ["page", "memoized page"], ["cached", "memoize", "get_or_set"]
#: The arguments of tests that say in which way something is cached.
WAYS = {"way": PAGES + VALUES, "value": VALUES, "by": ["cached", "memoize"]}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "system" not in metafunc.fixturenames:
        return
    fault = int(metafunc.function.__name__.split("_")[2])
    systems = ["ours"]
    if fault not in NOT_ON_STOCK:
        systems.append("ours, stock type")
    if fault != 22 and "stock_files" not in metafunc.fixturenames:
        systems.append("stock")
    for name in WAYS.keys() & set(metafunc.fixturenames):
        pairs = [(system, way) for system in systems for way in WAYS[name]]
        metafunc.parametrize(("system", name), [p for p in pairs if p != ("stock", "get_or_set")])
        return
    metafunc.parametrize("system", systems)


@pytest.fixture
def settings(settings: dict[str, Any], system: str) -> dict[str, Any]:
    own = {"CACHE_THRESHOLD": BOUND, "CACHE_DEFAULT_TIMEOUT": 300}
    return {**settings, **own, **({} if system == "ours" else STOCK)}


@pytest.fixture
def cache(cache: Cache, system: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return our cache, or a stock one."""
    inside.probe_every(monkeypatch, 3600)  # what fails goes on failing
    if system != "stock":
        yield cache
        return
    app = Flask("stock")
    app.secret_key = "for tests"
    with app.app_context():
        yield flask_caching.Cache(app, config={**STOCK, "CACHE_THRESHOLD": BOUND})


def either(cache: Any, ours: Any, stock: Any) -> Any:
    return ours if isinstance(cache, Cache) else stock


@pytest.fixture
def stock_files(tmp_path: Path) -> Any:
    """Return the backend with files that Flask-Caching has."""
    return FileSystemCache(str(tmp_path / "stock"), threshold=BOUND)


class Spy:
    """Stands before a cache's backend, notes what it is asked, and may fail or wait."""

    errors, timeout_errors = (OSError,), (TimeoutError,)

    def __init__(self, cache: Any) -> None:
        self.backend = either(cache, inside.behind_breaker, lambda cache: cache.cache)(cache)
        front = either(cache, lambda spy: inside.guarded(spy, leases=False), lambda spy: spy)(self)
        inside.put_under(cache, cache.app, front)
        self.calls: list[tuple[Any, ...]] = []
        self.error: Exception | None = None
        self.after: Callable[[str], Any] = str

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.backend, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, *args))
            if self.error is not None:
                raise self.error
            result = operation(*args, **kwargs)
            self.after(name)
            return result

        return call if callable(operation) else operation

    def stored(self) -> set[str]:
        """Return the keys that values were stored under."""
        return {call[1] for call in self.calls if call[0] in ("set", "store")}


Fetch = Callable[..., TestResponse]


def page(cache: Any, body: Any, by: str, rule: str = "/page", **options: Any) -> Fetch:
    """Put the view `body` under the cache; return what fetches it as a client without cookies."""
    cache.app.config["PROPAGATE_EXCEPTIONS"] = False
    view = getattr(cache, by)(**options)(body)
    cache.app.add_url_rule(rule, rule, view, methods=["GET", "POST"])

    def fetch(path: str = "/page", **more: Any) -> TestResponse:
        client: Any = cache.app.test_client(use_cookies=False)
        response: TestResponse = client.open(path, buffered=True, **more)
        return response

    return fetch


class Call:
    """A call of `body`, or a request of the page that it makes, under the cache in one way."""

    def __init__(self, cache: Any, way: str, body: Any = lambda: "v", **options: Any) -> None:
        def compute() -> Any:
            self.runs.append(1)
            return body()

        self.app, self.runs = cache.app, list[int]()
        self.call: Callable[[], Any]
        if way in PAGES:
            fetch = page(cache, compute, "cached" if way == "page" else "memoize", **options)
            self.call = lambda: fetch().text
        elif way == "get_or_set":
            self.call = lambda: cache.get_or_set("k", compute, **options)
        elif way == "memoize":
            self.call = cache.memoize(**options)(compute)
        else:
            self.call = cache.cached(key_prefix="k", **options)(compute)

    def __call__(self) -> Any:
        with self.app.app_context():
            return self.call()


def test_fault_01_nobody_gets_the_first_answer(cache: Any) -> None:
    """`cached(key_prefix="item")` on /item/<id> gives everybody the first item."""
    fetch = page(cache, lambda n: f"{n}", "cached", "/item/<int:n>", key_prefix="item")
    value = cache.cached(key_prefix="value")(lambda n: n)
    answers = [(fetch(f"/item/{n}").text, value(n)) for n in (1, 2)]
    assert answers == [("1", 1), either(cache, ours=("2", 2), stock=("1", 1))]


@pytest.mark.parametrize("name", ["simple", "filesystem", "no.such.Backend"])
def test_fault_02_a_type_that_works_is_named(settings: Any, system: str, name: str) -> None:
    """The short names of old tutorials end in an error of the import machinery."""
    if system == "stock":
        with pytest.raises(ImportStringError):
            flask_caching.Cache(Flask("stock"), config={"CACHE_TYPE": name})
    else:
        assert create_app(settings)
        with pytest.raises(SettingsError, match=r"FLASK_CACHE_TYPE: .*What works: .*\.Backend"):
            create_app({**settings, "CACHE_TYPE": name})


def test_fault_03_no_byte_of_a_request_reaches_a_key(cache: Any, by: str) -> None:
    """The path is the key, with the commands, spaces and kilobytes it holds."""
    evil = "\r\nset x 0 0 1\r\n1 \0\N{SNOWMAN}" + "x" * 300
    vary = {"vary": ["X-A"]} if by == "cached" and isinstance(cache, Cache) else {}
    fetch, path = page(cache, lambda n: n, by, "/<n>", **vary), "/" + urllib.parse.quote(evil)
    value, spy = getattr(cache, by)()(lambda n: n), Spy(cache)
    for _ in range(2):
        assert fetch(path, query_string={"q": evil}, headers={"X-A": "a b"}).text == evil
        assert value(evil) == evil
    names = [arg for call in spy.calls for arg in call[1:] if isinstance(arg, str)]
    if not isinstance(cache, Cache):
        assert (f"view//{evil}" in names) == (by == "cached")
        return
    assert all(name.isascii() and name.isprintable() for name in names)
    assert not [name for name in names if " " in name or len(name) > 100]
    for key in (evil, path) * 2:  # what the app itself makes a key of may be any text
        assert cache.get_or_set(key, key.upper) == key.upper()


def outage(cache: Any, way: str, error: Exception, caplog: Any) -> tuple[int, int]:
    """Return how often a failing backend is asked in 20 calls, and how many lines are logged."""
    call, spy = Call(cache, way), Spy(cache)
    spy.error = error
    assert [call() for _ in range(20)] == ["v"] * 20
    lines = [it for it in caplog.records if "cannot be pickled" not in it.msg]
    return min(len(spy.calls), 20), min(len(lines), 20)


def test_fault_04_refused_is_tried_thrice(cache: Any, way: str, caplog: Any) -> None:
    """Every request knocks at a server that is down, and fills the log."""
    asked = outage(cache, way, ConnectionRefusedError(), caplog)
    assert asked == either(cache, ours=(3, 1), stock=(20, 20))


def test_fault_05_silence_is_waited_for_once(cache: Any, way: str, caplog: Any) -> None:
    """Every request waits for a server that accepts and never answers."""
    asked = outage(cache, way, TimeoutError(), caplog)
    assert asked == either(cache, ours=(1, 1), stock=(20, 20))


@pytest.mark.parametrize("debug", [False, True])
def test_fault_06_an_outage_is_no_error(cache: Any, debug: bool) -> None:
    """An outage makes a bare `cache.get()` a 500, and in debug `cached` and `memoize` too."""
    names = ["get", "has", "delete", "inc", "dec", "get_many", "delete_many"]
    operations: dict[str, Any] = dict.fromkeys(names, "k") | {"set": "kv", "add": "kv", "clear": ""}
    operations["set_many"] = [{"k": "v"}]

    def bare(name: str) -> str:
        return f"{getattr(cache, name)(*operations[name])}"

    cache.app.debug = debug
    cache.app.add_url_rule("/bare/<name>", "bare", bare)
    fetch = page(cache, lambda: "v", "cached", "/by/cached")
    page(cache, lambda: "v", "memoize", "/by/memoize")
    Spy(cache).error = ConnectionRefusedError()
    statuses = {fetch(f"/bare/{name}").status_code for name in operations}
    assert statuses == either(cache, ours={200}, stock={500})
    statuses = {fetch(f"/by/{name}").status_code for name in ("cached", "memoize")}
    assert statuses == either(cache, ours={200}, stock={500 if debug else 200})


def test_fault_07_one_computes_for_all(cache: Any, clock: Clock, way: str) -> None:
    """20 threads on a cold or an expired key make 20 computations."""
    call, spy, arrived = Call(cache, way), Spy(cache), set[int]()
    all_have_missed = threading.Barrier(20)

    def meet(operation: str) -> None:
        if operation in ("get", "get_many") and threading.get_ident() not in arrived:
            arrived.add(threading.get_ident())
            all_have_missed.wait(60)

    spy.after = meet
    assert together(20, lambda _: call()) == ["v"] * 20
    assert len(call.runs) == either(cache, ours=1, stock=20)
    arrived.clear()
    clock.forward(301)
    together(20, lambda _: call())
    assert len(call.runs) == either(cache, ours=2, stock=20)  # stock has a clock of its own


ERRORS: dict[str, Callable[[], Any]] = {
    "404": lambda: ("gone", 404),
    "503": lambda: ("down", 503),
    "401 raised": lambda: abort(401),
}


@pytest.mark.parametrize("error", ERRORS)
def test_fault_08_no_error_is_kept(cache: Any, error: str, by: str) -> None:
    """A 404, a 503 and a raised 401 are served until they expire."""
    answers: Any = iter([ERRORS[error], lambda: "fine"])
    fetch, status = page(cache, lambda: next(answers)(), by), int(error[:3])
    kept = (error, by) != ("401 raised", "memoize")
    assert fetch().status_code == status
    assert fetch().status_code == either(cache, ours=200, stock=status if kept else 200)


def test_fault_08_nothing_raised_is_kept(cache: Any, value: str) -> None:
    """So is an error that a function raises which is no view."""
    answers: Any = iter([lambda: abort(401), lambda: "fine"])
    call = Call(cache, value, lambda: next(answers)())
    for _ in range(either(cache, ours=1, stock=2 if value == "cached" else 1)):
        with pytest.raises(HTTPException):
            call()
    assert len(call.runs) == 1
    if isinstance(cache, Cache):
        assert call() == "fine"


def test_fault_09_response_filter_gets_a_response(cache: Any, by: str) -> None:
    """It gets what the view returned: ("boom", 503) has no `status_code`."""
    fetch = page(cache, lambda: ("boom", 503), by, response_filter=lambda r: r.status_code == 200)
    assert {fetch().status_code for _ in range(2)} == either(cache, ours={503}, stock={500})


visitors = count()
#: The answers of views to each visitor, and what the request of one of them has in its header.
LEAKS: dict[str, tuple[Callable[[], Any], dict[str, str]]] = {
    "session": (lambda: session.get("user", ""), {"Cookie": "session=SIGNED"}),
    "cookie": (lambda: request.cookies.get("jwt", ""), {"Cookie": "jwt=alice"}),
    "login": (lambda: request.headers.get("Authorization", ""), {"Authorization": "alice"}),
    "set-cookie": (lambda: Response(f"{next(visitors)}", headers={"Set-Cookie": "id=1"}), {}),
    "vary": (lambda: (request.headers.get("X-A", ""), {"Vary": "X-A"}), {"X-A": "alice"}),
    "post": (lambda: request.method, {}),
}


@pytest.mark.parametrize("what", LEAKS)
def test_fault_10_nothing_leaks(cache: Any, what: str, by: str) -> None:
    """The first visitor's session page, login, cookie, language and POST go to everybody."""
    body, headers = LEAKS[what]
    signer: Any = SecureCookieSessionInterface().get_signing_serializer(cache.app)
    signed = signer.dumps({"user": "alice"})
    alice: Any = {"headers": {k: v.replace("SIGNED", signed) for k, v in headers.items()}}
    fetch, method = page(cache, body, by), "POST" if what == "post" else "GET"
    answers = [(fetch(**alice, method=method).text, fetch().text) for _ in range(2)]
    to_alice, to_others = map(set, zip(*answers, strict=True))
    assert bool(to_alice & to_others) == either(cache, ours=False, stock=True)


def test_fault_11_head_does_not_empty_the_page(cache: Any, by: str) -> None:
    """HEAD and GET share a key: a view that answers HEAD with nothing empties the page."""
    fetch = page(cache, lambda: "page" if request.method == "GET" else "", by)
    fetch(method="HEAD")
    assert fetch().text == either(cache, ours="page", stock="")


@dataclass
class Twin:
    n: int

    def __repr__(self) -> str:
        return "Twin"


@dataclass(repr=False)
class Plain:
    n: int


def test_fault_12_arguments_count_by_what_they_hold(cache: Any, by: str) -> None:
    """They count by `repr`: two with one share a result, one with a default never hits."""
    numbers, prefix = count(), {"key_prefix": "k"} if by == "cached" else {}
    call = getattr(cache, by)(**prefix)(lambda one: next(numbers))
    arguments = [Twin(1), Twin(2), Plain(1), Plain(1), Plain(2)]
    stock = [0] * 5 if by == "cached" else [0, 0, 1, 2, 3]
    assert [call(one) for one in arguments] == either(cache, ours=[0, 1, 2, 2, 3], stock=stock)


def stays(cache: Any, way: str, timeout: int) -> bool:
    """Tell whether an entry that is used stays while many that expire later are set."""
    call, names = Call(cache, way, timeout=timeout), [f"k{n}" for n in range(3 * BOUND)]
    for name in names:
        call()
        cache.set(name, "v", timeout=1000)
    check_bound(cache, names)
    return len(call.runs) == 1


def check_bound(cache: Any, names: list[str]) -> None:
    """Check that not more than BOUND of the keys have values, if the project sees to that."""
    left = [value for value in cache.get_many(*names) if value is not None]
    if isinstance(cache, Cache) and "CACHE_THRESHOLD" in Settings.model_fields:
        assert len(left) <= BOUND


def test_fault_13_what_is_used_stays(cache: Any, way: str) -> None:
    """At the bound goes what expires first, however much it is used."""
    assert stays(cache, way, timeout=60) == either(cache, ours=True, stock=False)


def test_fault_14_what_never_expires_stays(cache: Any, way: str) -> None:
    """`timeout=0`, which never expires, goes first."""
    assert stays(cache, way, timeout=0) == either(cache, ours=True, stock=False)


def test_fault_15_clear_drops_only_what_is_ours(
    cache: Any, bare: Flask, stock_files: Any, tmp_path: Path
) -> None:
    """`clear` takes along the entries of neighbours, or their files."""
    prefix = bare.config["CACHE_KEY_PREFIX"]
    caches = [cache]
    for name in (prefix + "2", prefix[:-1], prefix.replace("[*]", "*")):
        bare.config["CACHE_KEY_PREFIX"] = name
        caches.append(Cache(bare))
    assert [one.set("k", "v") for one in caches] == [True] * 4
    files = [folder / "foreign" for folder in (tmp_path, *tmp_path.iterdir()) if folder.is_dir()]
    for path in files:
        path.touch()
    assert cache.clear()
    assert [one.has("k") for one in caches] == [False, True, True, True]
    assert all(path.exists() for path in files)
    stock_files.clear()
    assert not (tmp_path / "stock" / "foreign").exists()


def test_fault_16_nobody_comes_in_between(
    cache: Any, bare: Flask, stock_files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With files `add`, `inc` and keeping the bound are several steps each."""

    def in_threads(work: Callable[[int, int], Any]) -> list[Any]:
        def run(me: int) -> list[Any]:
            with bare.app_context():
                return [work(me, n) for n in range(BOUND)]

        return together(8, run)

    assert sum(map(sum, in_threads(lambda _, n: cache.add(f"{n % 20}", "v")))) == 20
    in_threads(lambda _, __: cache.inc("n"))
    assert cache.get("n") == 8 * BOUND
    in_threads(lambda me, n: cache.set(f"{me} {n}", "v"))
    check_bound(cache, [f"{me} {n}" for me in range(8) for n in range(BOUND)])

    both, put = threading.Barrier(2), stock_files.set
    monkeypatch.setattr(stock_files, "_update_count", lambda **_: None)
    monkeypatch.setattr(stock_files, "set", lambda *args: [both.wait(60), put(*args)][1])
    assert together(2, lambda _: stock_files.add("k", "v")) == [True, True]
    assert together(2, lambda _: stock_files.inc("n")) == [1, 1]


def test_fault_17_memoize_asks_little_and_leaves_nothing(cache: Any) -> None:
    """A hit is two commands, a miss six, and `delete_memoized` leaves every old entry behind."""
    call, spy = cache.memoize()(lambda n: n), Spy(cache)
    call(1)
    miss = len(spy.calls)
    call(1)
    hit = len(spy.calls) - miss
    for _ in range(4):
        cache.delete_memoized(call)
        call(1)
    cache.delete_memoized(call, 1)
    assert spy.backend.get(call.make_cache_key(call.uncached, 1)) is None
    assert (hit, len(spy.stored())) == either(cache, ours=(1, 1), stock=(2, 5))
    assert (miss < 6) == either(cache, ours=True, stock=False)


class Bomb:
    exploded = False

    def __reduce__(self) -> Any:
        return setattr, (Bomb, "exploded", True)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "with another secret"])
def test_fault_18_nothing_planted_is_unpickled(
    cache: Any, bare: Flask, stock_files: Any, monkeypatch: Any, way: str, signed: bool
) -> None:
    """Values are pickles: write access to the backend means running code in the app."""
    app = Flask("stranger")
    app.config.from_mapping({**bare.config, "SECRET_KEY": "guessed"})
    stranger = Cache(app)
    stranger.clock = cache.clock
    if inside.backend_of(cache).shared:  # otherwise values do not leave the process
        with monkeypatch.context() as patch:
            inside.store_instead(patch, Bomb(), signed)
            Call(stranger, way)()
    monkeypatch.setattr(Bomb, "exploded", False)
    ours = Call(cache, way)
    assert [ours(), ours(), len(ours.runs), Bomb.exploded] == ["v", "v", 1, False]
    stock_files.set("k", Bomb())
    stock_files.get("k")
    assert Bomb.exploded


@pytest.mark.parametrize("status", [200, 201])
def test_fault_19_a_tuple_stays_one(cache: Any, way: str, status: int, system: str) -> None:
    """With the JSON serializer a view's ("text", 201) becomes a 200 with a list."""
    with warnings.catch_warnings(action="ignore"):  # ours has no use for it
        cache.init_app(cache.app, {"CACHE_SERIALIZER": JSONSerializer})
    call = Call(cache, way, lambda: ("text", status))
    first, second = call(), call()
    assert first == ("text" if way in PAGES else ("text", status))
    holds = system != "stock"
    assert (second == first) == holds


def test_fault_20_a_random_query_makes_no_entry(cache: Any) -> None:
    """With `query_string=True` each random parameter makes an entry, without bound."""
    options = either(cache, ours={"query": ("page",)}, stock={"query_string": True})
    fetch, spy = page(cache, lambda: "page", "cached", **options), Spy(cache)
    for n in range(20):
        fetch(query_string={"random": n})
    assert len(spy.stored()) == either(cache, ours=1, stock=20)


def test_fault_21_a_receiver_harms_nothing(cache: Any, by: str) -> None:
    """A receiver of the signals (CACHE_ENABLE_SIGNALS) that raises makes the request a 500."""
    received = []

    def receiver(_: Any, **about: Any) -> None:
        received.append(about)
        raise RuntimeError("in a receiver")

    cache.enable_signals = True
    fetch = page(cache, lambda: "page", by)
    kind = "view" if by == "cached" else by
    with contextlib.ExitStack() as stack:
        for what in ("hit", "miss"):
            signal = getattr(signals, f"cache_{kind}_{what}")
            stack.enter_context(signal.connected_to(receiver))
        assert {fetch().status_code for _ in range(2)} == either(cache, ours={200}, stock={500})
        assert len(received) == 2
        if isinstance(cache, Cache):
            call = Call(cache, by)
            assert [call(), call(), len(received)] == ["v", "v", 4]


def test_fault_22_no_lock_outlives_its_holder(cache: Any, clock: Clock, way: str) -> None:
    """A lock gets its expiry by a second command: a crash in between leaves it for ever."""
    spy, call = Spy(cache), Call(cache, way)
    assert cache.add("lock", "holder", timeout=10)
    assert [(name, args[-1]) for name, *args in spy.calls] == [("add", 10 + inside.SPARE)]
    clock.forward(10)
    assert cache.add("lock", "next holder")

    spy.calls.clear()
    call()
    ((_, key, lease, seconds),) = [asked for asked in spy.calls if asked[0] == "lease"]
    assert seconds == inside.LEASE
    cache.delete(key)
    assert cache.cache.lease(key, lease, 0.05) is None  # its holder dies: nobody renews it
    began = time.monotonic()
    assert [call(), call(), len(call.runs)] == ["v", "v", 2]
    assert time.monotonic() - began < inside.WAIT / 2


def test_fault_23_none_is_a_value(cache: Any, value: str) -> None:
    """None counts as a miss, and is computed each time."""
    call = Call(cache, value, lambda: None)
    assert [call(), call()] == [None, None]
    assert len(call.runs) == either(cache, ours=1, stock=2)


class Unlucky(str):
    """A key that another thread deletes between the first and the second look at it."""

    looks, patience = 0, 30.0
    rival: threading.Thread

    def __hash__(self) -> int:
        self.looks += 1
        if self.looks == 2:
            self.rival.start()
            self.rival.join(self.patience)
        return super().__hash__()


def test_fault_23_threads_do_not_break_the_lru() -> None:
    """The textbook's OrderedDict raises KeyError when threads meet in it."""
    lru, textbook = LRUCache(2), OrderedDict(k=None)
    lru.set("k", None)
    ours, other = Unlucky("k"), Unlucky("k")
    ours.rival = threading.Thread(target=lru.delete, args=["k"])
    ours.patience = 0.1  # it is kept waiting
    other.rival = threading.Thread(target=textbook.pop, args=["k"])
    assert lru.get(ours, "gone") is None
    ours.rival.join()
    assert other in textbook
    with pytest.raises(KeyError):
        textbook.move_to_end(other)


WORKER = """
import io, json, logging, os, sys
from flask import Flask
from shop.caching.cache import Cache
from shop.settings import Settings, load

logging.basicConfig(stream=(log := io.StringIO()))
app = Flask("workers")
app.config.from_mapping(load(json.loads(sys.argv[1])))
print(Cache(app).get_or_set("k", os.getpid), "Another process" in log.getvalue(), flush=True)
sys.stdin.read()
"""


def test_fault_24_workers_agree_or_are_told(settings: Any, system: str, tmp_path: Path) -> None:
    """Workers with a memory each give different answers, and nobody is told."""
    command = [sys.executable, "-c", WORKER, json.dumps({**settings, "TESTING": False})]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    workers: list[Any] = [subprocess.Popen(command, env=env, **pipes) for _ in range(2)]
    (one, warned), (other, warned_too) = [worker.stdout.readline().split() for worker in workers]
    for worker in workers:
        worker.communicate(timeout=60)
    assert (one == other or "True" in (warned, warned_too)) == (system == "ours")
