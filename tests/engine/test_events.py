"""The events of the cache: what is told, under which name, and what a subscriber may do."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask, abort, after_this_request, request, session

from shop.caching import events
from shop.caching.cache import Cache
from tests.engine import inside
from tests.engine.fixtures import Clock, Moody
from tests.engine.test_contract import together
from tests.serving import wait_until

CALLERS = 8
KINDS = {name: kind for name, kind in vars(events).items() if isinstance(kind, events.Event)}
numbers = count()


class Told(list[tuple[str, str, str, float]]):
    """What was told: the kind, name, result and seconds of each event."""

    def note(self, name: str, result: str, seconds: float) -> None:
        """Be told of an event, whatever its kind."""
        self.append(("", name, result, seconds))

    def of(self, kind: str) -> list[tuple[str, str]]:
        """Return the name and the result of each event of a kind."""
        return [(name, result) for its, name, result, _ in self if its == kind]


@contextmanager
def subscribed(event: events.Event, subscriber: events.Subscriber) -> Iterator[None]:
    """Let `subscriber` be told while the block runs."""
    event.subscribe(subscriber)
    try:
        yield
    finally:
        event.unsubscribe(subscriber)


@pytest.fixture
def told() -> Iterator[Told]:
    """Return what is told while a test runs."""
    told = Told()
    with ExitStack() as stack:
        for kind, event in KINDS.items():
            note = partial(lambda kind, *about: told.append((kind, *about)), kind)
            stack.enter_context(subscribed(event, note))
        yield told


def fresh() -> int:
    return next(numbers)


def plus(a: int, b: int = 0) -> int:
    return a + b


class Dice:
    def __call__(self) -> int:
        return next(numbers)

    def roll(self) -> int:
        return next(numbers)


class Unreadable:
    """It can be pickled, and not be loaded again."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


# Which events there are, and under which names.


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda cache: cache.get_or_set("k", fresh), "fresh"),
        (lambda cache: cache.get_or_set("k", partial(partial(plus, 1), b=2)), "plus"),
        (lambda cache: cache.get_or_set("k", Dice()), "Dice"),
        (lambda cache: cache.get_or_set("k", Dice().roll), "Dice.roll"),
        (lambda cache: cache.cached()(fresh)(), "fresh"),
        (lambda cache: cache.cached(key_prefix="k")(fresh)(), "fresh"),
        (lambda cache: cache.memoize(make_name=lambda _: "k")(plus)(1), "plus"),
    ],
)
def test_a_cache_has_the_name_of_the_function_that_computes(
    cache: Cache, told: Told, ask: Any, name: str
) -> None:
    ask(cache)
    ask(cache)
    dotted = f"{__name__}.{name}"
    assert told.of("lookup") == [(dotted, "miss"), (dotted, "hit")]
    assert told.of("load") == [(dotted, "stored")]


@pytest.mark.parametrize("method", ["cached", "memoize"])
def test_a_page_has_the_name_of_its_endpoint(
    cache: Cache, bare: Flask, told: Told, method: str
) -> None:
    view = getattr(cache, method)()(lambda number: "page")
    bare.add_url_rule("/pages/<number>", "book.page", view)
    for path in ("/pages/1", "/pages/1", "/pages/2"):
        bare.test_client().get(path)
    assert told.of("lookup") == [("book.page", result) for result in ("miss", "hit", "miss")]
    assert told.of("load") == [("book.page", "stored")] * 2


def test_what_is_read_and_stored_by_key_is_direct(cache: Cache, told: Told) -> None:
    assert cache.get("k") is None
    cache.set("k", "v")
    cache.add("k", "not stored")
    cache.add("l", "v")
    cache.set_many({"m": "v", "n": "v"})
    cache.get_many("k", "nothing")
    assert told.of("lookup") == [("direct", result) for result in ("miss", "hit", "miss")]
    assert told.of("put") == [("direct", "stored")] * 4
    assert told.of("load") == []


def test_an_old_value_that_is_served_while_another_computes_is_stale(
    cache: Cache, clock: Clock, told: Told
) -> None:
    def ask(compute: Any) -> Any:
        return cache.get_or_set("k", compute, timeout=10, stale=10)

    ask(fresh)
    clock.forward(15)
    told.clear()
    ask(lambda: ask(fresh))
    assert [result for _, result in told.of("lookup")] == ["miss", "stale"]


def test_who_waits_for_the_computation_of_another_has_a_hit(
    cache: Cache, bare: Flask, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = threading.Semaphore(0)

    def compute() -> str:
        assert all(waiting.acquire(timeout=30) for _ in range(CALLERS - 1))
        return "v"

    def ask(_: int) -> Any:
        with bare.app_context():
            return cache.get_or_set("k", compute)

    inside.on_wait(monkeypatch, waiting.release)
    assert together(CALLERS, ask) == ["v"] * CALLERS
    results = [result for _, result in told.of("lookup")]
    assert sorted(results) == ["hit"] * (CALLERS - 1) + ["miss"]
    assert len(told.of("load")) == 1


def read_session() -> str:
    return str(session.get("name"))


def read_cookies() -> str:
    return str(request.cookies.get("name"))


def put_off() -> str:
    after_this_request(lambda response: response)
    return "page"


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (lambda: ("missing", 404), "status 404"),
        (lambda: ("page", {"Cache-Control": "no-store"}), "no-store"),
        (lambda: ("page", {"Set-Cookie": "a=b"}), "set-cookie"),
        (lambda: ("page", {"Vary": "Accept"}), "vary"),
        (read_session, "reads session"),
        (read_cookies, "reads cookie"),
        (lambda: str(request.accept_languages), "reads header"),
        (put_off, "after_this_request"),
        (lambda: abort(403), "error"),
    ],
)
def test_a_page_that_is_not_stored_tells_why(
    cache: Cache, bare: Flask, told: Told, view: Any, reason: str
) -> None:
    bare.add_url_rule("/", "page", cache.cached()(view))
    client = bare.test_client()
    for name in ("session", "name"):
        client.set_cookie(name, "value")
    client.get("/", headers={"Accept-Language": "de"})
    assert told.of("lookup") == [("page", "miss")]
    assert told.of("load") == [("page", reason)]
    assert told.of("bypass") == []


def test_a_head_request_is_told_like_any_other(cache: Cache, bare: Flask, told: Told) -> None:
    bare.add_url_rule("/", "page", cache.cached()(lambda: "page"))
    for method in ("HEAD", "GET", "HEAD"):
        bare.test_client().open("/", method=method)
    assert told.of("lookup") == [("page", result) for result in ("miss", "miss", "hit")]
    assert told.of("load") == [("page", "head"), ("page", "stored")]


def test_a_value_that_is_not_stored_tells_why(cache: Cache, told: Told) -> None:
    cache.cached(response_filter=lambda value: False)(fresh)()
    cache.get_or_set("k", lambda: cache.delete("k"))
    with pytest.raises(ZeroDivisionError):
        cache.get_or_set("l", lambda: 1 // 0)
    reasons = [reason for _, reason in told.of("load")]
    assert reasons == ["response_filter", "not stored", "error"]


def test_times_are_told_in_seconds(
    cache: Cache, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def take(seconds: float) -> float:
        now[0] += seconds
        return 1.0

    def fail() -> None:
        take(2.5)
        raise ZeroDivisionError

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    cache.clock = lambda: take(0.125)  # each look at the clock takes that long
    cache.get_or_set("k", lambda: take(2.5))
    with pytest.raises(ZeroDivisionError):
        cache.get_or_set("l", fail)
    assert [seconds for kind, _, _, seconds in told if kind == "load"] == [2.5, 2.5]
    told.clear()
    cache.get_or_set("k", fresh)
    cache.get("k")
    taken = [seconds for kind, _, _, seconds in told if kind == "lookup"]
    assert len(taken) == 2
    assert all(0.125 <= seconds < 2.5 for seconds in taken)


@pytest.mark.parametrize(
    ("asked", "cookie", "reason"),
    [
        ({"method": "POST"}, "", "method"),
        ({"headers": {"Authorization": "Bearer token"}}, "", "authorization"),
        ({"query_string": "read"}, "other", "reads cookie"),
        ({"data": "body"}, "", "body"),
        ({"headers": {"X-Api-Key": "key"}}, "", "authorization"),
        ({"query_string": "unless"}, "", "unless"),
    ],
)
def test_a_request_that_goes_past_the_cache_tells_why(
    cache: Cache, bare: Flask, told: Told, asked: dict[str, Any], cookie: str, reason: str
) -> None:
    @bare.before_request
    def read() -> None:
        if "read" in request.args:
            request.cookies.get("other")

    @bare.route("/", methods=["GET", "POST"])
    @cache.cached(unless=lambda: "unless" in request.args)
    def page() -> str:
        return "page"

    client = bare.test_client()
    if cookie:
        client.set_cookie(cookie, "value")
    client.open("/", **asked)
    assert told.of("bypass") == [("page", reason)]
    assert told.of("lookup") == told.of("load") == []


def test_a_call_that_goes_past_the_cache_has_the_name_of_its_function(
    cache: Cache, told: Told
) -> None:
    cache.memoize(unless=lambda: True)(plus)(1)
    assert told.of("bypass") == [(f"{__name__}.plus", "unless")]


def test_an_operation_is_told_with_its_outcome(cache: Cache, told: Told) -> None:
    cache.set("k", "v")
    cache.set("k", threading.Lock())  # no value that could be kept
    cache.delete("k")
    assert told.of("operation") == [("set", "ok"), ("set", "error"), ("delete", "ok")]
    assert len(told.of("put")) == 1


def test_of_reads_that_go_well_one_in_32_is_told(cache: Cache, told: Told) -> None:
    for _ in range(64):
        cache.get("k")
    assert told.of("operation") == [("get", "ok")] * 2


def test_every_failure_is_told_until_the_backend_is_left_alone(
    cache: Cache, moody: Moody, told: Told
) -> None:
    moody.fault = ConnectionError()
    for _ in range(5):
        cache.get("k")
    assert told.of("operation") == [("get", "error")] * inside.FAILURES
    assert told.of("lookup") == [("direct", "miss")] * 5


def test_the_breaker_tells_once_that_it_opens_and_closes(
    cache: Cache, moody: Moody, told: Told
) -> None:
    moody.fault = TimeoutError()
    cache.get("k")
    cache.get("k")
    assert told.of("breaker") == [("breaker", "open")]
    moody.fault = None
    wait_until(lambda: len(told.of("breaker")) > 1)
    assert told.of("breaker") == [("breaker", "open"), ("breaker", "closed")]


def test_of_callers_whose_failures_come_together_one_tells(
    cache: Cache, moody: Moody, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    moody.fault = TimeoutError()
    asking = threading.Barrier(CALLERS)
    with monkeypatch.context() as patch:
        patch.setattr(moody, "asked", SimpleNamespace(set=asking.wait))
        together(CALLERS, lambda _: cache.get("k"))
    asking.abort()  # the probe may have come to it
    assert told.of("operation") == [("get", "error")] * CALLERS
    assert told.of("breaker") == [("breaker", "open")]


def test_a_value_that_cannot_be_read_is_corrupt_and_a_miss(cache: Cache, told: Told) -> None:
    cache.set("k", Unreadable())
    assert cache.get("k") is None
    assert told.of("corrupt") == [("value", "cannot be read")]
    assert told.of("lookup") == [("direct", "miss")]


def test_no_event_holds_a_key_a_path_a_value_or_a_user(
    cache: Cache, bare: Flask, told: Told
) -> None:
    name = "ada-lovelace"

    @bare.route("/<name>", methods=["GET", "POST"])
    @cache.cached(private_key=lambda: name, tags=[name], key_prefix=name)
    def page(name: str) -> str:
        return name

    client = bare.test_client()
    for method in ("get", "post"):
        client.open(f"/{name}?q={name}", method=method)
    cache.get_or_set(name, lambda: name, tags=[name])
    cache.memoize()(sorted)(name)
    cache.invalidate(name)
    for value in (threading.Lock(), Unreadable(), name):
        cache.set(name, value)
        cache.get(name)
    cache.delete(name)
    with pytest.raises(KeyError):
        cache.get_or_set(name, lambda: dict[str, str]()[name])
    assert {kind for kind, *_ in told} == KINDS.keys() - {"breaker"}
    assert name not in repr(told)


# Subscribers.


def test_who_subscribes_twice_is_told_once_and_after_unsubscribing_no_more() -> None:
    event, told = events.Event(), Told()

    @event.subscribe
    def note(name: str, result: str, seconds: float) -> None:
        told.append(("", name, result, seconds))

    assert event.subscribe(note) is note
    event("name", "result", 0.5)
    assert told == [("", "name", "result", 0.5)]
    event.unsubscribe(note)
    event.unsubscribe(note)
    event("name", "result")
    assert len(told) == 1


def test_a_method_is_told_once_too_and_can_be_unsubscribed() -> None:
    event, told = events.Event(), Told()
    for _ in range(2):
        event.subscribe(told.note)
    event("a", "b")
    event.unsubscribe(told.note)
    event("a", "b")
    assert told == [("", "a", "b", 0.0)]


def test_a_subscriber_that_raises_is_logged_and_harms_nothing(
    cache: Cache, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    others = Told()
    with ExitStack() as stack:
        for event in KINDS.values():
            stack.enter_context(subscribed(event, fail))
            stack.enter_context(subscribed(event, lambda *about: others.append(("", *about))))
        assert cache.get_or_set("k", lambda: "v") == "v"
        assert cache.set("k", "v")
        assert cache.get("k") == "v"
    assert [about for _, *about in others] == [about for _, *about in told]
    assert len(caplog.records) == len(told)
    assert all("<locals>.fail" in record.message for record in caplog.records)
    assert "ZeroDivisionError" in caplog.text


def test_a_subscriber_may_ask_the_cache(cache: Cache) -> None:
    seen: list[Any] = []
    with subscribed(events.put, lambda *_: seen.append(cache.get("k"))):
        cache.set("k", "v")
    with subscribed(events.load, lambda *_: seen.append(cache.get("l"))):
        cache.get_or_set("l", lambda: "w")
    assert seen == ["v", "w"]


def test_a_subscriber_may_ask_the_cache_while_the_breaker_changes(
    cache: Cache, moody: Moody
) -> None:
    seen: list[Any] = []
    cache.set("k", "v")
    moody.fault = TimeoutError()
    with subscribed(events.breaker, lambda _, state, __: seen.append((state, cache.get("k")))):
        asks = threading.Thread(target=cache.get, args=("k",), daemon=True)
        asks.start()
        asks.join(30)
        assert seen == [("open", None)]
        moody.fault = None
        wait_until(lambda: len(seen) > 1)
    assert seen == [("open", None), ("closed", "v")]
