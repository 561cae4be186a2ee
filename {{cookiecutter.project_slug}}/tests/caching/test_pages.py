"""`cached` on a view: the pages that are kept, the key of a page, and how a kept page is sent."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, Response, abort, after_this_request, g, request, session
from flask.testing import FlaskClient
from flask.views import MethodView
from werkzeug.test import TestResponse

from {{ cookiecutter.project_slug }}.caching.cache import Cache

from tests.conftest import Clock, in_threads

STORED, HIT = "bare; fwd=miss; stored", "bare; hit; ttl=300"


class Site:
    """An app with cached views. `runs` counts how often a view ran."""

    def __init__(self, app: Flask, cache: Cache) -> None:
        self.app, self.cache = app, cache
        self.runs = 0
        app.add_url_rule("/login/<name>", "login", lambda name: session.update(user=name) or "")

    def view(self, body: Callable[[], Any] = str, path: str = "/page", **options: Any) -> None:
        """Add a cached view that returns `body()`."""

        def view(**_: Any) -> Any:
            self.runs += 1
            return body()

        cached = self.cache.cached(**options)(view)
        self.app.add_url_rule(path, path, cached, methods=["GET", "POST"])

    def get(self, path: str = "/page", **more: Any) -> TestResponse:
        """Fetch a page as a client without cookies."""
        return self.app.test_client(use_cookies=False).open(path, buffered=True, **more)

    def status(self, path: str = "/page", **more: Any) -> str:
        """Return the Cache-Status of a page."""
        return self.get(path, **more).headers["Cache-Status"]

    def client_of(self, name: str) -> FlaskClient:
        """Return a client that is logged in."""
        client = self.app.test_client()
        client.get(f"/login/{name}")
        return client


@pytest.fixture
def site(bare: Flask, cache: Cache) -> Site:
    return Site(bare, cache)


# The key.


def test_a_page_is_computed_once(site: Site) -> None:
    site.view(lambda: f"run {site.runs}")
    assert [site.get().text for _ in range(3)] == ["run 1"] * 3


@pytest.mark.parametrize("prefix", ["view/%s", "item"])
def test_each_path_has_its_own_page(site: Site, prefix: str) -> None:
    site.view(lambda: request.path, "/item/<int:item>", key_prefix=prefix)
    for _ in range(2):
        assert [site.get(f"/item/{n}").text for n in (1, 2)] == ["/item/1", "/item/2"]


def test_each_query_has_its_own_page(site: Site) -> None:
    site.view(lambda: request.query_string.decode())
    queries = ["", "a=1", "a=2", "a=1&b=2", "b=2&a=1", "a", "a="]
    for _ in range(2):
        assert [site.get(query_string=query).text for query in queries] == queries


def test_only_the_declared_parameters_of_the_query_count(site: Site) -> None:
    site.view(query=["a", "b"])
    assert site.status("/page?a=1&b=2") == STORED
    assert site.status("/page?utm=x&b=2&a=1") == HIT
    assert site.status("/page?a=1") == STORED
    assert site.status("/page?a=1&b=2&a=3") == STORED


@pytest.mark.parametrize(
    "other", ["http://b.example", "https://a.example", "http://a.example:81", "http://a.example/en"]
)
def test_each_host_scheme_and_script_root_has_its_own_page(site: Site, other: str) -> None:
    site.view(lambda: request.url)
    for _ in range(2):
        for base in ("http://a.example", other):
            assert site.get(base_url=base).text == f"{base}/page"


def test_each_value_of_a_header_in_vary_has_its_own_page(site: Site) -> None:
    site.view(lambda: request.headers["Accept-Language"], vary=["Accept-Language"])
    for _ in range(2):
        for language in ("de", "en"):
            response = site.get(headers={"Accept-Language": language})
            assert response.text == language
            assert response.headers["Vary"].lower() == "accept-language"
    assert site.runs == 2


def test_a_method_of_a_class_is_a_view_too(site: Site) -> None:
    class Item(MethodView):
        @site.cache.cached()
        def get(self, item: int) -> str:
            return f"item {item}"

        def post(self, item: int) -> str:
            return "posted"

    site.app.add_url_rule("/<int:item>", view_func=Item.as_view("item"))
    assert [site.get(f"/{n}").text for n in (1, 2, 1)] == ["item 1", "item 2", "item 1"]
    assert site.status("/1") == HIT
    assert site.get("/1", method="POST").text == "posted"


# Private pages.


def test_two_users_never_see_each_others_page(site: Site) -> None:
    site.view(lambda: f"hello {session.get('user', 'stranger')}")
    alice, bob = site.client_of("alice"), site.client_of("bob")
    for _ in range(2):
        assert alice.get("/page").text == "hello alice"
        assert bob.get("/page").text == "hello bob"
        assert site.get().text == "hello stranger"


def test_a_page_that_writes_the_session_is_not_kept(site: Site) -> None:
    site.view(lambda: session.setdefault("user", "alice"))
    assert site.status() == 'bare; fwd=miss; detail="changes session"'


def test_a_cookie_that_is_read_keeps_the_page_of_those_who_have_it_out(site: Site) -> None:
    """A token in a cookie is not in the session."""
    site.view(lambda: f"hello {request.cookies.get('jwt')}")
    for name in ("alice", "bob"):
        response = site.get(headers={"Cookie": f"jwt={name}"})
        assert response.text == f"hello {name}"
        assert "reads cookie: give private_key" in response.headers["Cache-Status"]
    assert (site.status(), site.status()) == (STORED, HIT)


def test_a_header_that_is_read_is_named_in_vary_or_keeps_the_page_out(site: Site) -> None:
    site.app.before_request(lambda: setattr(g, "tenant", request.headers.get("X-Tenant")))
    site.view(lambda: f"hello {g.tenant}")
    site.view(lambda: str(request.accept_languages), "/language")
    assert (site.status(), site.status()) == (STORED, HIT)
    status = site.status(headers={"X-Tenant": "a"})
    assert status == 'bare; fwd=bypass; detail="reads x-tenant: add it to vary"'
    status = site.status("/language", headers={"Accept-Language": "de"})
    assert status == 'bare; fwd=miss; detail="reads accept-language: add it to vary"'


def test_a_cookie_that_the_page_does_not_read_does_not_matter(site: Site) -> None:
    site.view()
    assert site.status(headers={"Cookie": "_ga=1"}) == STORED
    assert site.status(headers={"Cookie": "_ga=2"}) == HIT


@pytest.mark.parametrize("name", ["HTTP_AUTHORIZATION", "REMOTE_USER", "HTTP_X_API_KEY"])
def test_a_request_with_authorization_goes_past_the_cache(site: Site, name: str) -> None:
    site.view(lambda: str(name in request.environ))
    status = site.status(environ_overrides={name: "Ada"})
    assert status == 'bare; fwd=bypass; detail="authorization"'
    assert site.get().text == "False"
    assert site.get(environ_overrides={name: "Ada"}).text == "True"


def test_a_guard_that_reads_the_session_keeps_the_page_private(site: Site) -> None:
    site.app.before_request(lambda: session.get("user") and None)
    site.view(lambda: "page")
    alice = site.client_of("alice")
    status = alice.get("/page").headers["Cache-Status"]
    assert status == 'bare; fwd=bypass; detail="reads session: give private_key"'
    assert (site.status(), site.status()) == (STORED, HIT)  # for visitors without a session


def test_a_guard_runs_on_a_hit_too(site: Site) -> None:
    site.app.before_request(lambda: abort(403) if "X-Key" not in request.headers else None)
    site.view()
    assert site.get(headers={"X-Key": "1"}).status_code == 200
    assert site.get().status_code == 403


def test_private_key_keeps_one_page_for_each_owner(site: Site) -> None:
    site.view(lambda: f"hello {session.get('user')}", private_key=lambda: session.get("user"))
    clients = {name: site.client_of(name) for name in ("alice", "bob")}
    for _ in range(2):
        for name, client in clients.items():
            response = client.get("/page")
            assert response.text == f"hello {name}"
            assert "Cookie" in response.headers["Vary"]
    assert site.runs == 2
    assert site.status() == 'bare; fwd=bypass; detail="no owner"'


def test_a_decorator_above_is_given_what_the_view_returned(site: Site) -> None:
    def without_secrets(view: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: {"name": view()["name"]}

    view = site.cache.cached()(lambda: {"name": "alice", "password_hash": "secret"})
    site.app.add_url_rule("/user", "user", without_secrets(view))
    for status in (STORED, HIT):
        response = site.get("/user")
        assert (response.json, response.headers["Cache-Status"]) == ({"name": "alice"}, status)


# Refused pages.


def cookie() -> Response:
    response = Response("page")
    response.set_cookie("a", "b")
    return response


def later_cookie() -> str:
    after_this_request(lambda response: response.set_cookie("a", "b") or response)
    return "page"


def header(name: str, value: str) -> Callable[[], Any]:
    return lambda: ("page", {name: value})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (lambda: ("made", 201), "status 201"),
        (lambda: ("gone", 404), "status 404"),
        (lambda: abort(401), "error"),
        (lambda: 1 // 0, "error"),
        (cookie, "set-cookie"),
        (later_cookie, "after_this_request"),
        (header("Cache-Control", 'private="x", max-age=60'), "private"),
        (header("Cache-Control", "no-store"), "no-store"),
        (header("Cache-Control", "public, No-Cache"), "no-cache"),
        (header("Cache-Control", "max-age=0"), "max-age=0"),
        (header("Vary", "Accept-Language"), "vary"),
        (lambda: (part for part in ("a", "b")), "streamed"),
        (lambda: "x" * 1_000_001, "too large"),
    ],
)
def test_a_page_that_may_not_be_kept_is_answered_as_without_a_cache(
    site: Site, body: Callable[[], Any], reason: str
) -> None:
    site.app.testing = False  # as in production, an error is a 500
    site.app.add_url_rule("/plain", "plain", body)
    site.view(body)
    plain = site.get("/plain")
    for _ in range(2):
        response = site.get()
        assert (response.status_code, response.data) == (plain.status_code, plain.data)
        headers = dict(response.headers)
        assert headers.pop("Cache-Status") == f'bare; fwd=miss; detail="{reason}"'
        assert headers == dict(plain.headers)


def test_post_goes_past_the_cache(site: Site) -> None:
    site.view(lambda: request.method)
    for method in ("POST", "GET", "POST"):
        assert site.get(method=method).text == method
    assert site.status(method="POST") == "bare; fwd=method"


def test_unless_and_response_filter_keep_a_page_out(site: Site) -> None:
    site.view(query=(), unless=lambda: "fresh" in request.args)
    site.view(path="/filtered", response_filter=lambda response: "X-Keep" in response.headers)
    assert [site.status(), site.status("/page?x")] == [STORED, HIT]
    assert "Cache-Status" not in site.get("/page?fresh").headers
    assert site.status("/filtered") == 'bare; fwd=miss; detail="response_filter"'


# Sent pages.


@pytest.mark.parametrize(
    "body",
    [
        lambda: "text",
        lambda: b"bytes \xff",
        lambda: {"json": [1, 2]},
        lambda: ("text", {"X-Own": "1"}),
        header("Cache-Control", "public, max-age=600"),
        header("Content-Type", "text/csv; charset=latin-1"),
        header("ETag", '"own"'),
    ],
)
def test_a_page_is_sent_as_the_view_made_it(site: Site, body: Callable[[], Any]) -> None:
    site.app.add_url_rule("/plain", "plain", body)
    site.view(body)
    plain = site.get("/plain")
    for status in (STORED, HIT):
        response = site.get()
        assert (response.status_code, response.data) == (200, plain.data)
        assert set(plain.headers) <= set(response.headers)
        assert response.headers["Cache-Status"] == status


def test_a_page_shows_its_age_and_how_long_it_stays_fresh(site: Site, clock: Clock) -> None:
    said = {"Age": "1000", "Cache-Control": "max-age=60"}  # the age of data that the view fetched
    site.view(lambda: ("page", said), timeout=300)
    site.get()
    clock.forward(20.5)
    response = site.get()
    assert response.headers.getlist("Age") == ["20"]
    assert response.headers["Cache-Status"] == "bare; hit; ttl=39"
    clock.forward(39.5)
    assert site.status() == STORED


@pytest.mark.parametrize("kept", [True, False])
def test_a_client_that_has_the_page_gets_a_304(site: Site, kept: bool) -> None:
    site.view(lambda: "page")
    tag = site.get().headers["ETag"]
    if not kept:
        site.cache.clear()
    response = site.get(headers={"If-None-Match": tag})
    assert (response.status_code, response.data, response.headers["ETag"]) == (304, b"", tag)
    assert site.get(headers={"If-None-Match": '"other"'}).data == b"page"


def test_head_is_answered_from_the_page_of_get_and_stores_nothing(site: Site) -> None:
    site.view(lambda: "page")
    assert "stored" not in site.status(method="HEAD")
    assert site.status() == STORED
    head = site.get(method="HEAD")
    assert (head.data, head.headers["Content-Length"]) == (b"", "4")
    assert head.headers["Cache-Status"] == HIT


# Dropped and stale pages, and pages that many ask for at once.


def test_a_tag_drops_its_pages_at_once(site: Site) -> None:
    site.view(tags=["posts"])
    site.view(path="/other", tags=["users"])
    for path in ("/page", "/other"):
        site.get(path)
    site.cache.invalidate("posts")
    assert [site.status(path) for path in ("/page", "/other")] == [STORED, HIT]


def test_a_stale_page_is_served_while_one_request_computes_a_new_one(
    site: Site, clock: Clock
) -> None:
    meanwhile: list[str] = []

    def body() -> str:
        if site.runs == 2:
            meanwhile.extend(in_threads(1, site.app, site.status))
        return f"run {site.runs}"

    site.view(body, timeout=10, stale=30)
    site.get()
    clock.forward(15)
    assert site.get().text == "run 2"
    assert meanwhile == ["bare; hit; ttl=-5"]


def test_a_page_that_may_not_be_kept_makes_no_queue(site: Site) -> None:
    first, together = threading.Semaphore(1), threading.Barrier(7, timeout=20)

    def body() -> Any:
        if not first.acquire(blocking=False):
            together.wait()  # for the other six, which compute at the same time
        return "page", {"Cache-Control": "no-store"}

    site.view(body)
    assert in_threads(8, site.app, lambda: site.get().status_code) == [200] * 8
