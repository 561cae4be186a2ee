"""Single flight: of several callers that miss a key one computes; nobody gets a dropped value."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import pytest
from flask import Flask, request

from shop.caching.cache import Cache
from shop.caching.look import Look
from tests.engine import inside
from tests.engine.fixtures import Clock
from tests.engine.test_contract import together

CALLERS = 20


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Return what is released each time that a caller begins to wait for another's computation."""
    waiting = threading.Semaphore(0)
    inside.on_wait(monkeypatch, waiting.release)
    return waiting


def await_all(waiting: threading.Semaphore, count: int = CALLERS - 1) -> None:
    for _ in range(count):
        assert waiting.acquire(timeout=30)


class Computation:
    """Something to compute that stops half-way until it is told to go on."""

    def __init__(self, cache: Cache, app: Flask, **options: Any) -> None:
        self.cache, self.app, self.options = cache, app, options
        self.begun, self.go_on = threading.Event(), threading.Event()

    def compute(self) -> str:
        self.begun.set()
        assert self.go_on.wait(30)
        return "old"

    def run(self) -> Any:
        with self.app.app_context():
            return self.cache.get_or_set("k", self.compute, **self.options)

    @contextmanager
    def half_way(self) -> Iterator[Any]:
        """Run it in a thread, and the block while it is half-way; give its future."""
        with ThreadPoolExecutor() as pool:
            try:
                future = pool.submit(self.run)
                assert self.begun.wait(30)
                yield future
            finally:
                self.go_on.set()


def in_app(app: Flask, work: Callable[[int], Any]) -> Callable[[int], Any]:
    def run(number: int) -> Any:
        with app.app_context():
            return work(number)

    return run


@pytest.mark.parametrize("before", ["cold", "expired"])
def test_one_computes_and_all_get_its_value(
    cache: Cache, bare: Flask, clock: Clock, waiting: threading.Semaphore, before: str
) -> None:
    computed: list[int] = []
    if before == "expired":
        cache.get_or_set("k", lambda: -1, timeout=10)
        clock.forward(10)

    def compute() -> int:
        await_all(waiting)
        computed.append(1)
        return len(computed)

    results = together(CALLERS, in_app(bare, lambda _: cache.get_or_set("k", compute, timeout=10)))
    assert results == [1] * CALLERS
    assert cache.get("k") == 1


def test_one_view_runs_for_all(cache: Cache, bare: Flask, waiting: threading.Semaphore) -> None:
    runs: list[int] = []

    @bare.get("/page")
    @cache.cached()
    def page() -> str:
        await_all(waiting)
        runs.append(1)
        return f"run {len(runs)}"

    answers = together(CALLERS, lambda _: bare.test_client().get("/page").text)
    assert answers == ["run 1"] * CALLERS


def test_an_error_reaches_its_own_caller_and_the_next_tries(
    cache: Cache, bare: Flask, waiting: threading.Semaphore
) -> None:
    tries: list[int] = []

    def compute() -> str:
        tries.append(1)
        if len(tries) == 1:
            await_all(waiting)
            raise ZeroDivisionError
        return "fine"

    def work(_: int) -> str:
        try:
            return str(cache.get_or_set("k", compute))
        except ZeroDivisionError:
            return "error"

    assert sorted(together(CALLERS, in_app(bare, work))) == ["error"] + ["fine"] * (CALLERS - 1)
    assert len(tries) == 2


def test_who_saw_two_others_fail_waits_for_no_third(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a queue the last would wait for as many as there are callers."""
    waits: list[str] = []

    def fail(_: object, lease: str, __: bool) -> float:
        waits.append(lease)  # it fails, and another caller takes the lease at once
        inside.take_over(cache, "k", lease)
        return 0.01

    first = Look(cache, "name", "k", 60)
    assert not first.hit()
    with first:
        assert first.is_ours
        monkeypatch.setattr(cache.computations, "wait", fail)
        assert cache.get_or_set("k", lambda: "mine") == "mine"
    assert len(waits) == 2


def test_a_page_that_may_not_be_stored_makes_no_queue_and_is_not_shared(
    cache: Cache, bare: Flask
) -> None:
    first, at_once = threading.Semaphore(1), threading.Barrier(CALLERS - 1)

    @bare.get("/page")
    @cache.cached()
    def page() -> tuple[str, dict[str, str]]:
        if not first.acquire(blocking=False):
            at_once.wait(inside.WAIT / 3)  # sooner than they would tire of a queue
        return request.headers["X-Caller"], {"Cache-Control": "no-store"}

    def ask(number: int) -> str:
        return bare.test_client().get("/page", headers={"X-Caller": str(number)}).text

    assert together(CALLERS, ask) == [str(number) for number in range(CALLERS)]


def test_a_page_that_may_be_stored_again_is_stored(cache: Cache, bare: Flask) -> None:
    control = ["no-store"]

    @bare.get("/page")
    @cache.cached()
    def page() -> tuple[str, dict[str, str]]:
        return "page", {"Cache-Control": control[0]}

    client = bare.test_client()
    client.get("/page")
    control[0] = "public"
    statuses = [client.get("/page").headers["Cache-Status"] for _ in range(2)]
    assert [status.split("; ")[1] for status in statuses] == ["fwd=miss", "hit"]


def test_different_keys_do_not_wait_for_one_another(cache: Cache, bare: Flask) -> None:
    with Computation(cache, bare).half_way():
        assert cache.get_or_set("other", lambda: "v") == "v"


def test_a_head_request_waits_for_nobody(cache: Cache, bare: Flask) -> None:
    begun, go_on = threading.Event(), threading.Event()

    @bare.get("/page")
    @cache.cached()
    def page() -> str:
        if request.method == "GET":
            begun.set()
            assert go_on.wait(30)
        return "page"

    with ThreadPoolExecutor() as pool:
        getting = pool.submit(lambda: bare.test_client().get("/page").text)
        assert begun.wait(30)
        assert bare.test_client().head("/page").status_code == 200
        go_on.set()
        assert getting.result() == "page"


def test_for_a_while_after_the_timeout_one_computes_and_others_get_the_old_value(
    cache: Cache, bare: Flask, clock: Clock
) -> None:
    cache.get_or_set("k", lambda: "older", timeout=10, stale=30)
    clock.forward(39)
    with Computation(cache, bare, timeout=10, stale=30).half_way() as computing:
        assert cache.get_or_set("k", pytest.fail, timeout=10, stale=30) == "older"
    assert computing.result() == "old"
    assert cache.get("k") == "old"


def test_a_page_is_served_stale_with_its_negative_ttl(
    cache: Cache, bare: Flask, clock: Clock
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    @bare.get("/page")
    @cache.cached(timeout=10, stale=30)
    def page() -> str:
        begun.set()
        assert go_on.wait(30)
        return "page"

    def ask() -> str:
        return bare.test_client().get("/page").headers["Cache-Status"]

    go_on.set()
    assert ask() == "bare; fwd=miss; stored"
    begun.clear()
    go_on.clear()
    clock.forward(15)
    with ThreadPoolExecutor() as pool:
        computing = pool.submit(ask)
        assert begun.wait(30)
        assert ask() == "bare; hit; ttl=-5"
        go_on.set()
        assert computing.result() == "bare; fwd=miss; stored"


def test_nothing_is_served_after_timeout_and_stale(cache: Cache, clock: Clock) -> None:
    cache.get_or_set("k", lambda: "old", timeout=10, stale=30)
    clock.forward(10)
    assert cache.get("k") is None
    clock.forward(30)
    assert cache.get_or_set("k", lambda: "new", timeout=10, stale=30) == "new"


class Drop(NamedTuple):
    """A way to drop the key "k", and the tags it needs for that."""

    drop: Callable[[Cache], Any]
    tags: list[str]


DROPS = {
    "invalidate": Drop(lambda cache: cache.invalidate("t"), ["t"]),
    "delete": Drop(lambda cache: cache.delete("k"), []),
    "delete_many": Drop(lambda cache: cache.delete_many("k"), []),
    "clear": Drop(lambda cache: cache.clear(), []),
    "clear with tags": Drop(lambda cache: cache.clear(), ["t"]),
}


@pytest.fixture(params=list(DROPS))
def way(request: pytest.FixtureRequest) -> Drop:
    """Return each way to drop the key "k"."""
    return DROPS[request.param]


def test_who_comes_after_a_drop_never_gets_what_was_begun_before_it(
    cache: Cache, bare: Flask, way: Drop
) -> None:
    with Computation(cache, bare, tags=way.tags).half_way() as computing:
        way.drop(cache)
        assert cache.get_or_set("k", lambda: "new", tags=way.tags) == "new"
    assert computing.result() == "old"
    assert cache.get("k") == "new"


@pytest.mark.parametrize("several", [False, True])
def test_what_is_set_is_not_overwritten_by_what_was_begun_before_it(
    cache: Cache, bare: Flask, several: bool
) -> None:
    with Computation(cache, bare).half_way():
        if several:
            cache.set_many({"k": "new"})
        else:
            cache.set("k", "new")
    assert cache.get("k") == "new"


def test_what_a_drop_overtook_is_not_stored(cache: Cache, bare: Flask, way: Drop) -> None:
    with Computation(cache, bare, tags=way.tags).half_way() as computing:
        way.drop(cache)
    assert computing.result() == "old"
    assert cache.get("k") is None
    assert cache.get_or_set("k", lambda: "new", tags=way.tags) == "new"


def test_who_waited_before_a_drop_does_not_bring_the_old_value_back(
    cache: Cache, bare: Flask, waiting: threading.Semaphore, way: Drop
) -> None:
    computation = Computation(cache, bare, tags=way.tags)
    with ThreadPoolExecutor() as pool, computation.half_way():
        work = in_app(bare, lambda _: cache.get_or_set("k", lambda: "new", tags=way.tags))
        waiter = pool.submit(work, 0)
        await_all(waiting, 1)
        way.drop(cache)
        assert waiter.result() == "new"
    assert cache.get("k") == "new"


def test_a_drop_beats_stale(cache: Cache, clock: Clock, way: Drop) -> None:
    cache.get_or_set("k", lambda: "old", timeout=10, stale=30, tags=way.tags)
    clock.forward(15)
    way.drop(cache)
    assert cache.get_or_set("k", lambda: "new", timeout=10, stale=30, tags=way.tags) == "new"


def test_a_computation_longer_than_its_lease_is_not_done_twice(
    cache: Cache, bare: Flask, monkeypatch: pytest.MonkeyPatch, waiting: threading.Semaphore
) -> None:
    inside.lease_for(monkeypatch, 3.0)
    renewals = threading.Semaphore(0)
    replace = cache.cache.replace

    def told(key: str, lease: str, successor: str, seconds: float) -> Any:
        try:
            return replace(key, lease, successor, seconds)
        finally:
            if successor == lease:
                renewals.release()

    monkeypatch.setattr(cache.cache, "replace", told)
    computed: list[int] = []

    def compute() -> int:
        computed.append(1)
        await_all(waiting, 1)
        await_all(renewals, 4)  # a third of the lease apart
        return len(computed)

    assert together(2, in_app(bare, lambda _: cache.get_or_set("k", compute))) == [1, 1]


@pytest.mark.parametrize("end", ["value", "error"])
def test_who_comes_after_a_computation_waits_for_nothing(
    cache: Cache, clock: Clock, waiting: threading.Semaphore, end: str
) -> None:
    with suppress(KeyError):
        cache.get_or_set("k", lambda: {"value": 1}[end], timeout=10)
    clock.forward(10)
    assert cache.get_or_set("k", lambda: "next", timeout=10) == "next"
    assert not waiting.acquire(blocking=False)
    assert inside.running(cache) == {}


def test_nobody_waits_for_a_value_that_cannot_be_pickled(
    cache: Cache, bare: Flask, waiting: threading.Semaphore
) -> None:
    first, at_once = threading.Semaphore(1), threading.Barrier(CALLERS - 1)

    def compute() -> Any:
        if first.acquire(blocking=False):
            await_all(waiting)
        else:
            at_once.wait(inside.WAIT / 3)
        return threading.Lock()

    locks = together(CALLERS, in_app(bare, lambda _: cache.get_or_set("k", compute)))
    assert len(set(map(id, locks))) == CALLERS


def test_without_another_thread_to_be_had_a_value_is_computed_all_the_same(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert cache.get_or_set("k", lambda: "v") == "v"
    assert cache.get("k") == "v"
    assert inside.running(cache) == {}
