"""Reads are noted in tasks and threads that share a request, and in an app's own classes.

Each visitor's answer must be that of an app without a cache.
"""

import asyncio
import contextvars
import copy
import dataclasses
import functools
import io
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask, Request, copy_current_request_context, g, request, session
from flask.ctx import _AppCtxGlobals
from werkzeug.datastructures import EnvironHeaders
from werkzeug.test import TestResponse
from werkzeug.utils import environ_property

from shop.caching.cache import Cache
from tests.engine.fixtures import Clock

Read = Callable[[], Any]
VISITORS = ("ann", "bob")


class Site:
    """An app whose visitors differ in their session, headers, query and `g.user`."""

    def __init__(self, app: Flask, clock: Clock) -> None:
        self.app, self.clock = app, clock
        app.before_request(lambda: setattr(g, "user", request.headers["X-Who"]))
        self.cache = Cache()
        self.cache.clock = clock

    def start(self) -> None:
        """Bind the cache, after the app has its classes."""
        self.cache.init_app(self.app)

    def ask(self, who: str, path: str = "/", **more: Any) -> TestResponse:
        interface: Any = self.app.session_interface
        cookie = interface.get_signing_serializer(self.app).dumps({"user": who})
        headers = {"X-Who": who, "Cookie": f"session={cookie}"}
        client = self.app.test_client(use_cookies=False)
        return client.get(f"{path}?q={who}", headers=headers, **more)


@pytest.fixture
def site(bare: Flask, clock: Clock) -> Site:
    """Return a site whose cache is not bound yet."""
    return Site(bare, clock)


READS: list[Read] = [lambda: session["user"], lambda: request.args["q"], lambda: g.user]
READS += [lambda: request.headers["X-Who"]]


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_tasks_beside_each_other_are_watched_apart(
    site: Site, read: Read, order: tuple[int, int]
) -> None:
    site.start()
    numbers = itertools.count()

    @site.cache.memoize()
    async def cart() -> str:
        owner = read()
        await asyncio.sleep(0)
        return f"cart of {owner}"

    @site.cache.memoize()
    async def titles() -> str:
        for _ in range(5):
            await asyncio.sleep(0)
        return f"titles {next(numbers)}"

    @site.app.get("/")
    async def view() -> list[str]:
        both = (cart, titles)
        answers = await asyncio.gather(*(both[number]() for number in order))
        return sorted(answers)

    for who in VISITORS * 2:
        assert site.ask(who).json == [f"cart of {who}", "titles 0"]


def copied(call: Read) -> Read:
    """Return `call` for a thread with a copy of this context."""
    context = contextvars.copy_context()
    return lambda: context.run(call)


@pytest.mark.parametrize(
    ("carry", "read"),
    [(copied, read) for read in READS]
    + [(copy_current_request_context, read) for read in READS if read is not READS[2]],
)
def test_threads_that_share_a_request_are_watched(
    site: Site, carry: Callable[[Read], Read], read: Read
) -> None:
    site.start()

    @site.app.get("/")
    def view() -> list[str]:
        has_read, is_open, has_ended = (threading.Event() for _ in range(3))
        name = g.user

        def cart() -> str:
            owner = read()
            has_read.set()
            assert is_open.wait(10)
            return f"cart of {owner}"

        def titles() -> str:
            is_open.set()
            assert has_ended.wait(10)
            return "titles"

        with ThreadPoolExecutor(2) as pool:
            mine = pool.submit(carry(lambda: site.cache.get_or_set("cart", cart)))
            assert has_read.wait(10) or mine.result()
            other = pool.submit(carry(lambda: site.cache.get_or_set(f"titles {name}", titles)))
            answers = [mine.result(10)]
            has_ended.set()
            return [*answers, other.result(10)]

    for who in VISITORS:
        assert site.ask(who).json == [f"cart of {who}", "titles"]


def starts(site: Site) -> Read:
    """Return a view that reads the session and starts a thread that ends after it."""
    threads = ThreadPoolExecutor(1)

    def view() -> str:
        name, path = session["user"], request.path
        ends = threading.Event()
        opened = threading.Event()

        def warm() -> None:
            opened.set()
            ends.wait(10)

        work = copied(lambda: site.cache.get_or_set(f"warm {name} {path}", warm))
        g.done = threads.submit(work), ends
        assert opened.wait(10)
        return f"hello {name}"

    return view


def test_work_in_a_thread_does_not_hide_what_the_page_has_read(site: Site) -> None:
    site.start()
    view = starts(site)
    site.app.add_url_rule("/", "plain", view)
    site.app.add_url_rule("/page", "page", site.cache.cached()(view))

    @site.app.teardown_request
    def finish(_: Any) -> None:
        done, ends = g.done
        ends.set()
        done.result(10)

    for who in VISITORS:
        for path in ("/", "/page"):
            answer = site.ask(who, path)
            assert answer.text == f"hello {who}"
            assert answer.vary.as_set() == {"cookie"}


class Early(Request):
    """Reads a header before the request is done."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.who = self.headers["X-Who"]


class ByProperty(Request):
    """Reads the environ by Werkzeug's property."""

    who = environ_property[str]("HTTP_X_WHO")


class Writable(Request):
    """Lets hooks change it."""

    who = environ_property[str]("HTTP_X_WHO", read_only=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.who = f"{self.who}"


class ByServer(Request):
    """Reads the user that the server has authenticated."""

    @property
    def who(self) -> str | None:
        return self.remote_user


class Elsewhere(Request):
    """Finds the client's address in a header, and has one of its own."""

    @property
    def remote_addr(self) -> str | None:
        return self.headers.get("X-Who", self._own)

    @remote_addr.setter
    def remote_addr(self, address: str | None) -> None:
        self._own = address

    @property
    def who(self) -> str | None:
        return self.remote_addr


class Swapped(Request):
    """Makes headers of its own, by the name of its base."""

    def __init__(self, environ: Any, *args: Any, **kwargs: Any) -> None:
        Request.__init__(self, environ, *args, **kwargs)
        self.headers = EnvironHeaders({**environ, "HTTP_X_OWN": environ["HTTP_X_WHO"]})

    @property
    def who(self) -> str:
        return self.headers["X-Own"]


class OwnStream(Request):
    """Has a stream of its own."""

    @functools.cached_property
    def stream(self) -> Any:
        return io.BytesIO(self.headers["X-Who"].encode())

    @property
    def who(self) -> str:
        return str(self.stream.getvalue().decode())


class Needs(Request):
    """Cannot be made without a middleware's value."""

    def __init__(self, environ: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(environ, *args, **kwargs)
        self.who = environ["app.who"]


class Busy(Request):
    """Has attributes with common names, such as `users` and `details`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.users = self.watches = self.details = self.left = self.making = self.known = 1
        self.who = self.headers["X-Who"]


KINDS = (Early, ByProperty, Writable, ByServer, Busy, Elsewhere, Swapped, OwnStream)


# A page does not see direct reads of the environ.
@pytest.mark.parametrize(
    ("kind", "way"),
    [(Needs, "function"), *((kind, way) for kind in KINDS for way in ("function", "page"))],
)
def test_reads_of_an_apps_own_request_class_count(site: Site, kind: Any, way: str) -> None:
    site.app.request_class = kind
    site.start()

    def who() -> str:
        return f"hello {request.who}"  # type: ignore[attr-defined]

    cached: Read = site.cache.cached()(who)
    view = cached if way == "page" else lambda: cached()
    site.app.add_url_rule("/", "view", view)
    for name in VISITORS:
        environ = {"REMOTE_USER": name, "app.who": name}
        assert site.ask(name, environ_base=environ).text == f"hello {name}"


@dataclasses.dataclass
class Plain(_AppCtxGlobals):
    """Cannot be hashed."""

    user: str = ""


class Slots(_AppCtxGlobals):
    """Has slots beside its attributes."""

    __slots__ = ("user",)


@pytest.mark.parametrize("kind", [Plain, Slots])
@pytest.mark.parametrize("take", [lambda: g.user, lambda: copy.copy(g._get_current_object()).user])
def test_a_class_of_g_may_be_the_apps_own(site: Site, kind: Any, take: Read) -> None:
    site.app.app_ctx_globals_class = kind
    site.start()
    call = site.cache.cached()(lambda: f"plan of {take()}")
    site.app.add_url_rule("/", "view", lambda: call())
    for who in VISITORS * 2:
        assert site.ask(who).text == f"plan of {who}"


def read_session(*_: Any) -> str:
    return f"hello {session['user']}"


def test_many_results_that_are_not_kept_make_no_long_header(site: Site) -> None:
    site.start()

    def view() -> list[Any]:
        def one(number: int) -> None:
            site.cache.get_or_set("one", read_session)
            site.cache.get_or_set(
                f"{number}", type(f"Of{number}", (), {"__call__": read_session})()
            )

        for number in range(100):
            one(number)
        return []

    site.app.add_url_rule("/", "plain", view)
    site.app.add_url_rule("/page", "page", site.cache.cached()(view))
    for path in ("/", "/page"):
        said = site.ask("ann", path).headers.getlist("Cache-Status")
        assert len(said) == len(set(said)) < 10
        assert len("".join(said)) < 2_000
