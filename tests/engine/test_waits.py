"""Waits: circles of them are resolved at once, and those in an event loop block no other task."""

import asyncio
import contextvars
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from flask import Flask, current_app
from flask.testing import FlaskClient

from shop.caching.cache import Cache
from tests.baking import ROOT
from tests.engine import inside

SOON = 10  # seconds: sooner than the longest wait, which a circle must not take
numbers = count()


# Circles.


def in_threads(app: Flask, *calls: Callable[[], Any]) -> list[Any]:
    """Return what calls give that run in threads of their own."""

    def run(call: Callable[[], Any]) -> Any:
        with app.app_context():
            return call()

    pool = ThreadPoolExecutor(len(calls))
    try:
        return [one.result(SOON) for one in [pool.submit(run, call) for call in calls]]
    finally:
        pool.shutdown(wait=False)


class Ring:
    """Functions under the cache, each of which calls the next one while it is computed."""

    def __init__(self, caches: list[Cache]) -> None:
        self.caches, self.begun = caches, threading.Barrier(len(caches))

    def call(self, me: int, at: int, depth: int = 2) -> Any:
        """Return what one caller gets of the function at a place; the last calls return."""

        def compute() -> list[Any]:
            if depth == 2:  # go on when all are being computed
                self.begun.wait(SOON)
            return [at, self.call(me, (at + 1) % len(self.caches), depth - 1) if depth else None]

        return self.caches[me].get_or_set(f"ring {at}", compute)

    def run(self, app: Flask) -> None:
        """Let each caller call a function, all at once."""
        each = range(len(self.caches))
        results = in_threads(app, *(functools.partial(self.call, at, at) for at in each))
        assert [result[0] for result in results] == [*each]
        assert not any(inside.running(cache) or inside.waiting(cache) for cache in self.caches)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_circle_of_threads_is_resolved_at_once(cache: Cache, bare: Flask, size: int) -> None:
    for _ in range(3):
        cache.clear()
        Ring([cache] * size).run(bare)


def by_itself(cache: Cache, app: Flask) -> Any:
    @cache.memoize(args_to_ignore=["tries"])
    def fetch(page: int, tries: int = 3) -> Any:
        return [page, fetch(page, tries - 1)] if tries else page

    return fetch(1)


def by_one_prefix(cache: Cache, app: Flask) -> Any:
    inner = cache.cached(key_prefix="one")(lambda: "inner")
    return cache.cached(key_prefix="one")(lambda: ["outer", inner()])()


def by_key(cache: Cache, app: Flask) -> Any:
    return cache.get_or_set("k", lambda: [cache.get_or_set("k", lambda: "inner", stale=5)])


def by_make_cache_key(cache: Cache, app: Flask) -> Any:
    @cache.cached(make_cache_key=lambda n: "all")
    def down(n: int) -> Any:
        return [down(n - 1)] if n else 0

    return down(3)


def by_each_other(cache: Cache, app: Flask) -> Any:
    @cache.memoize(args_to_ignore=["n"])
    def ping(n: int) -> Any:
        return ["ping", pong(n - 1)] if n else "end"

    @cache.memoize(args_to_ignore=["n"])
    def pong(n: int) -> Any:
        return ["pong", ping(n - 1)] if n else "end"

    return ping(4)


def in_another_thread(cache: Cache, app: Flask) -> Any:
    """As code does that an extension of Flask runs in a thread, with the caller's context."""

    def compute() -> Any:
        context = contextvars.copy_context()
        with ThreadPoolExecutor() as pool:
            inner = pool.submit(context.run, cache.get_or_set, "k", lambda: "inner")
            return [inner.result(SOON)]

    return cache.get_or_set("k", compute)


def in_another_context(cache: Cache, app: Flask) -> Any:
    def inner() -> Any:
        with app.app_context():
            return cache.get_or_set("k", lambda: "inner")

    return cache.get_or_set("k", lambda: [contextvars.Context().run(inner)])


def in_an_event_loop(cache: Cache, app: Flask) -> Any:
    async def compute() -> str:
        return "inner"

    async def inner() -> Any:
        return await cache.get_or_set("k", compute)

    return cache.get_or_set("k", lambda: [asyncio.run(inner())])


def in_tasks(cache: Cache, app: Flask) -> Any:
    @cache.memoize(args_to_ignore=["depth"])
    async def tree(depth: int) -> Any:
        return await asyncio.gather(tree(depth - 1), tree(depth - 1)) if depth else 0

    async def main() -> Any:
        return await tree(2)

    return asyncio.run(main())


def in_an_async_circle(cache: Cache, app: Flask) -> Any:
    async def compute(at: int, depth: int) -> Any:
        if depth == 2:
            begun[at].set()
            await asyncio.gather(*(one.wait() for one in begun))
        return [at, await call((at + 1) % 3, depth - 1)] if depth else at

    async def call(at: int, depth: int) -> Any:
        return await cache.get_or_set(f"k{at}", functools.partial(compute, at, depth))

    async def main() -> Any:
        return (await asyncio.gather(*(call(at, 2) for at in range(3))))[0]

    begun = [asyncio.Event() for _ in range(3)]
    return asyncio.run(main())[0]


@pytest.mark.parametrize(
    ("nest", "result"),
    [
        (by_itself, [1, [1, [1, 1]]]),
        (by_one_prefix, ["outer", "inner"]),
        (by_key, ["inner"]),
        (by_make_cache_key, [[[0]]]),
        (by_each_other, ["ping", ["pong", ["ping", ["pong", "end"]]]]),
        (in_another_thread, ["inner"]),
        (in_another_context, ["inner"]),
        (in_an_event_loop, ["inner"]),
        (in_tasks, [[0, 0], [0, 0]]),
        (in_an_async_circle, 0),
    ],
)
def test_a_key_that_its_own_computation_asks_for_is_computed_at_once(
    cache: Cache, bare: Flask, nest: Callable[[Cache, Flask], Any], result: Any
) -> None:
    assert in_threads(bare, lambda: nest(cache, bare)) == [result]
    assert (inside.running(cache), inside.waiting(cache)) == ({}, {})


# Async.


class Work:
    """Async functions of each kind, which go on when they are told to."""

    def __init__(self, cache: Cache) -> None:
        self.runs, self.errors, self.go_on = list[int](), list[Exception](), asyncio.Event()

        async def wait(n: int) -> list[int]:
            return await Waiting("function")(n)

        @functools.wraps(wait)
        async def wrapped(*args: Any) -> list[int]:
            return await wait(*args)

        async def by_key(n: int) -> Any:
            return await cache.get_or_set(f"k{n}", functools.partial(wait, n))

        functions: list[Any] = [wait, wrapped, functools.partial(wait)]
        functions += [Waiting("object"), Waiting("").again]
        kept = [cache.memoize()(function) for function in functions]
        self.kinds: list[Any] = [by_key, cache.cached()(wait), *kept]


class Waiting:
    """An object that can be called and awaited."""

    work: Work

    def __init__(self, name: str) -> None:
        self.name = name

    async def __call__(self, n: int) -> list[int]:
        self.work.runs.append(n)
        await asyncio.wait_for(self.work.go_on.wait(), SOON)
        if self.work.errors:
            raise self.work.errors.pop()
        return [n]

    again = __call__


def in_loop(cache: Cache, main: Callable[[Work], Awaitable[None]]) -> None:
    """Run `main` in an event loop; nothing of its computations may be left."""

    async def run() -> None:
        Waiting.work = Work(cache)
        await asyncio.wait_for(main(Waiting.work), SOON)

    asyncio.run(run())
    assert (inside.running(cache), inside.waiting(cache)) == ({}, {})


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


KINDS = range(7)


@pytest.mark.parametrize("kind", KINDS)
def test_an_async_key_is_computed_once_and_blocks_no_other_task(cache: Cache, kind: int) -> None:
    async def main(work: Work) -> None:
        call = work.kinds[kind]
        tasks = [asyncio.ensure_future(call(n)) for n in (1, 2, 1, 1, 2)]
        await until(lambda: len(work.runs) == 2 and len(inside.waiting(cache)) == 3)
        work.go_on.set()
        assert await asyncio.gather(*tasks) == [[1], [2], [1], [1], [2]]
        assert await call(1) == [1]
        assert sorted(work.runs) == [1, 2]

    in_loop(cache, main)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["cancel a wait", "cancel the computation", "error"])
def test_a_task_that_ends_early_leaves_nothing_and_others_go_on(
    cache: Cache, kind: int, end: str
) -> None:
    async def main(work: Work) -> None:
        tasks = [asyncio.ensure_future(work.kinds[kind](1)) for _ in range(3)]
        await until(lambda: len(work.runs) == 1 and len(inside.waiting(cache)) == 2)
        if end == "error":
            work.errors.append(ZeroDivisionError())
        else:
            tasks[end == "cancel a wait"].cancel()
            await until(lambda: any(task.done() for task in tasks))
        work.go_on.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results.count([1]) == 2
        assert len(work.runs) == 1 + (end != "cancel a wait")

    in_loop(cache, main)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("waits", [False, True])
def test_a_coroutine_that_is_closed_outside_of_its_context_leaves_nothing(
    cache: Cache, kind: int, waits: bool
) -> None:
    """As a task does whose event loop is closed, or that is garbage."""

    async def main(work: Work) -> None:
        task = asyncio.ensure_future(work.kinds[kind](1)) if waits else None
        await until(lambda: len(work.runs) == waits)
        coroutine = work.kinds[kind](1)
        contextvars.copy_context().run(coroutine.send, None)
        coroutine.close()
        assert len(inside.running(cache)) == waits
        work.go_on.set()
        assert await work.kinds[kind](1) == [1]
        assert task is None or await task == [1]

    in_loop(cache, main)


@pytest.mark.parametrize("in_a_loop", [False, True])
@pytest.mark.parametrize("way", ["cached", "memoize", "get_or_set"])
def test_a_function_that_returns_a_coroutine_is_an_error(
    cache: Cache, way: str, in_a_loop: bool
) -> None:
    async def work() -> int:
        return 1

    def call() -> Any:
        compute: Callable[[], Any] = lambda: work()  # noqa: E731
        if way == "get_or_set":
            return cache.get_or_set("k", compute)
        return getattr(cache, way)()(compute)()

    async def main() -> None:
        call()

    with pytest.raises(TypeError, match="give the async function itself"):
        asyncio.run(main()) if in_a_loop else call()
    assert inside.running(cache) == {}


@pytest.fixture
def client(bare: Flask, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """Return a client of an app that runs async views without asgiref."""
    monkeypatch.setattr(bare, "async_to_sync", lambda f: lambda *a, **k: asyncio.run(f(*a, **k)))
    return bare.test_client()


@pytest.mark.parametrize("way", ["cached", "memoize", "get_or_set"])
def test_an_async_result_is_one_for_async_views_sync_views_and_code_outside(
    cache: Cache, bare: Flask, client: FlaskClient, way: str
) -> None:
    async def compute() -> list[int]:
        await asyncio.sleep(0)
        return [next(numbers)]

    kept: Any = functools.partial(cache.get_or_set, "k", compute)
    if way != "get_or_set":
        kept = getattr(cache, way)()(compute)
    bare.extensions["kept"] = kept

    @bare.get("/async")
    async def by_awaiting() -> Any:
        return await current_app.extensions["kept"]()

    @bare.get("/sync")
    def by_calling() -> Any:
        return current_app.extensions["kept"]()

    first = client.get("/async").json
    assert [client.get(path).json for path in ("/async", "/sync")] == [first] * 2
    assert (kept(), asyncio.run(by_awaiting())) == (first, first)


def guarded(view: Any) -> Any:
    @functools.wraps(view)
    async def guard(**given: Any) -> Any:
        return ["guarded", *await view(**given)]

    return guard


@pytest.mark.parametrize("way", ["cached", "memoize"])
def test_an_async_page_below_an_async_decorator_is_kept(
    cache: Cache, bare: Flask, client: FlaskClient, way: str
) -> None:
    async def page(n: int) -> list[int]:
        await asyncio.sleep(0)
        return [n, next(numbers)]

    bare.get("/<int:n>")(guarded(getattr(cache, way)()(page)))
    answers: list[Any] = [client.get(path) for path in ("/1", "/1", "/2")]
    assert [answer.json[:2] for answer in answers] == [["guarded", n] for n in (1, 1, 2)]
    assert answers[0].json == answers[1].json
    assert "; hit" in answers[1].headers["Cache-Status"]


# Forks.


HELD = """
import os, signal, threading
from flask import Flask
from flask_caching.backends import SimpleCache
from shop.caching import LRUCache, events
from shop.caching.cache import Cache

class Key:
    def __hash__(self):
        return hold()

class Broken(SimpleCache):
    errors = (TimeoutError,)
    def get(self, key):
        raise TimeoutError

def hold(*_):
    held.set()
    threading.Event().wait()

def look():
    with app.app_context():
        return cache.get("k")

held, lru, app = threading.Event(), LRUCache(10), Flask("app")
lru.set("k", None)
events.breaker.subscribe(hold)
cache = Cache(app, config={"CACHE_TYPE": "__main__.Broken", "SECRET_KEY": "for tests"})
holder, call = HOLDER
threading.Thread(target=holder, daemon=True).start()
held.wait(10)
child = os.fork()
if child == 0:
    signal.alarm(10)
    os._exit(call() is not None)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(
    "holder",
    [
        "lambda: lru.get(Key()), lambda: lru.get('k')",
        "lambda: lru.set(Key(), 1), lambda: lru.set('k', 1)",
        "look, look",
    ],
)
def test_a_forked_process_waits_for_no_thread_that_it_does_not_have(holder: str) -> None:
    code = HELD.replace("HOLDER", holder)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_that_is_forked_by_the_holder_of_a_lock_holds_it() -> None:
    code = """
import os
from shop.caching import LRUCache

lru = LRUCache(10)
with lru.lock:
    lru.set("k", os.fork())
if lru.get("k"):
    os._exit(os.waitstatus_to_exitcode(os.waitpid(lru.get("k"), 0)[1]))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0
