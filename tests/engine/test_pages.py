"""`cached` on a view: which pages are kept, under which key, and how they are sent."""

import functools
import gzip
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from flask import (
    Flask,
    Response,
    abort,
    after_this_request,
    flash,
    get_flashed_messages,
    jsonify,
    make_response,
    render_template_string,
    request,
    send_file,
    session,
)
from flask.views import MethodView, View
from flask_caching import CachedResponse
from werkzeug.test import TestResponse

from shop.caching.cache import Cache
from tests.engine.fixtures import Clock

Body = Callable[[], Any]


class Site:
    """An app with cached views that count how often they run."""

    def __init__(self, app: Flask, cache: Cache) -> None:
        self.app, self.cache = app, cache
        self.runs = 0

    def view(self, body: Body = str, path: str = "/page", **options: Any) -> None:
        """Add a view that answers with `body()`."""

        def view(**_: Any) -> Any:
            self.runs += 1
            return body()

        cached = self.cache.cached(**options)(view)
        self.app.add_url_rule(path, path, cached, methods=["GET", "POST"])

    def get(self, path: str = "/page", **more: Any) -> TestResponse:
        """Fetch a page as a client without cookies."""
        return self.app.test_client(use_cookies=False).open(path, buffered=True, **more)

    def status(self, path: str = "/page", **more: Any) -> str:
        """Return the Cache-Status of the page."""
        return self.get(path, **more).headers["Cache-Status"]


@pytest.fixture
def site(bare: Flask, cache: Cache) -> Site:
    return Site(bare, cache)


HIT, STORED = "bare; hit; ttl=300", "bare; fwd=miss; stored"


# The key.


def test_a_page_is_computed_once(site: Site) -> None:
    site.view(lambda: f"run {site.runs}")
    assert [site.get().text for _ in range(3)] == ["run 1"] * 3
    assert site.runs == 1


def test_each_path_has_its_own_page(site: Site) -> None:
    """The usual recipe, key_prefix="item" on /item/<id>, gives everybody the first item."""
    site.view(lambda: request.path, "/item/<int:item>", key_prefix="item")
    for _ in range(2):
        assert [site.get(f"/item/{n}").text for n in (1, 2)] == ["/item/1", "/item/2"]


def test_each_query_has_its_own_page(site: Site) -> None:
    site.view(lambda: request.query_string.decode())
    queries = ["", "a=1", "a=2", "a=1&b=2", "b=2&a=1", "a=1&a=2", "a=2&a=1", "a", "a=", "a=1&"]
    for _ in range(2):
        assert [site.get("/page", query_string=query).text for query in queries] == queries
    assert site.runs == len(queries)


def test_of_the_query_only_declared_parameters_count_in_any_order(site: Site) -> None:
    site.view(lambda: str(request.args.getlist("a")), query=["b", "a"])
    assert site.status("/page?a=1&b=2") == STORED
    for same in ("b=2&a=1", "a=1&b=2&utm=x", "utm=y&b=2&a=1"):
        assert site.status("/page?" + same) == HIT
    for other in ("a=1", "a=1&b=", "a=1&b=2&a=3", "a=3&b=2&a=1", "a=1,b=2", "A=1&b=2"):
        assert site.status("/page?" + other) == STORED


def test_with_no_parameter_declared_no_query_makes_an_entry(site: Site) -> None:
    site.view(query=())
    site.get()
    assert [site.status(f"/page?random={n}") for n in range(3)] == [HIT] * 3


def test_with_query_string_the_order_of_parameters_does_not_count(site: Site) -> None:
    site.view(query_string=True)
    assert site.status("/page?a=1&b=2&a=3") == STORED
    assert site.status("/page?b=2&a=1&a=3") == HIT
    assert site.status("/page?b=2&a=3&a=1") == STORED


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"base_url": "http://a.example"}, {"base_url": "http://b.example"}),
        ({"base_url": "http://a.example"}, {"base_url": "https://a.example"}),
        ({"base_url": "http://a.example"}, {"base_url": "http://a.example:81"}),
        ({"base_url": "http://a.example/de"}, {"base_url": "http://a.example/en"}),
    ],
    ids=["host", "scheme", "port", "script root"],
)
def test_each_place_has_its_own_page(site: Site, one: Any, other: Any) -> None:
    site.view(lambda: request.url)
    for _ in range(2):
        assert site.get(**one).text != site.get(**other).text
    assert site.runs == 2


def test_two_views_of_one_path_and_host_matching_do_not_share(bare: Flask, cache: Cache) -> None:
    bare.add_url_rule("/<x>", "one", cache.cached()(lambda x: f"one {x}"))
    bare.add_url_rule("/<x>/", "two", cache.cached()(lambda x: f"two {x}"))
    client = bare.test_client()
    for _ in range(2):
        assert [client.get("/a").text, client.get("/a/").text] == ["one a", "two a"]


def test_each_value_of_a_header_in_vary_has_its_own_page(site: Site) -> None:
    site.view(lambda: request.headers.get("Accept-Language", "none"), vary=["Accept-Language"])
    for _ in range(2):
        for language in ("de", "en"):
            response = site.get(headers={"Accept-Language": language})
            assert response.text == language
            assert response.headers["Vary"] == "accept-language"
    assert site.get().text == "none"
    assert site.runs == 3


@pytest.mark.parametrize(
    "path",
    [
        "a b",
        "a%20b",
        "a%0d%0aset x 0 0 1%0d%0a1",
        "%00",
        "\N{SNOWMAN}",
        "%ff",
        "x" * 10_000,
        "%25s",
    ],
    ids=lambda path: ascii(path)[:20],
)
def test_a_path_may_hold_anything(site: Site, path: str) -> None:
    site.view(lambda: repr(request.path), "/<rest>")
    first = site.get("/" + path)
    assert first.status_code == 200
    assert site.get("/" + path).data == first.data
    assert site.get("/" + path + "x").data != first.data
    assert site.runs == 2


def test_the_methods_of_a_class_are_kept_apart_by_path(bare: Flask, cache: Cache) -> None:
    class Item(MethodView):
        @cache.cached()
        def get(self, item: int) -> str:
            return f"item {item}"

        def post(self, item: int) -> str:
            return "posted"

    bare.add_url_rule("/<int:item>", view_func=Item.as_view("item"))
    client = bare.test_client()
    for _ in range(2):
        assert [client.get(f"/{n}").text for n in (1, 2)] == ["item 1", "item 2"]
    assert client.get("/1").headers["Cache-Status"] == HIT
    assert client.head("/1").headers["Cache-Status"] == HIT
    assert client.post("/1").text == "posted"


def test_a_class_of_views_may_be_cached_as_a_decorator(bare: Flask, cache: Cache) -> None:
    class Page(View):
        decorators = [cache.cached()]  # noqa: RUF012

        def dispatch_request(self) -> str:
            return "page"

    bare.add_url_rule("/page", view_func=Page.as_view("page"))
    client = bare.test_client()
    assert [client.get("/page").headers["Cache-Status"] for _ in range(2)] == [STORED, HIT]


# What is private.


READS_SESSION = 'bare; fwd=miss; detail="reads session: give private_key"'


def logged_in(site: Site, user: str = "alice") -> Any:
    """Return a client with a session that holds the user's name."""
    client = site.app.test_client()
    with client.session_transaction() as values:
        values["user"] = user
    return client


def test_a_page_that_reads_a_session_is_kept_for_visitors_who_have_none(site: Site) -> None:
    alice = logged_in(site)
    site.view(lambda: f"hello {session.get('user')}")
    assert alice.get("/page").headers["Cache-Status"] == READS_SESSION
    assert (site.status(), site.status()) == (STORED, HIT)
    assert "Cookie" in site.get().headers["Vary"]
    assert alice.get("/page").headers["Cache-Status"] == READS_SESSION
    assert alice.get("/page").text == "hello alice"


def test_a_page_that_writes_the_session_is_not_kept(site: Site) -> None:
    site.view(lambda: session.setdefault("user", "alice"))
    assert site.status() == 'bare; fwd=miss; detail="changes session"'


def test_a_page_whose_template_reads_the_session_is_kept_for_strangers_only(site: Site) -> None:
    alice = logged_in(site)
    flashed = "{" * 2 + "get_flashed_messages()" + "}" * 2
    site.view(lambda: render_template_string(flashed))
    assert (site.status(), site.status()) == (STORED, HIT)
    assert alice.get("/page").headers["Cache-Status"] == READS_SESSION


def test_a_page_that_reads_nothing_of_a_session_is_for_everybody(site: Site) -> None:
    alice = logged_in(site)
    site.view(lambda: "for everybody")
    assert alice.get("/page").headers["Cache-Status"] == STORED
    assert site.status() == HIT


def test_two_users_on_one_route_never_see_each_other(site: Site) -> None:
    site.app.add_url_rule("/login/<u>", "login", lambda u: session.update(user=u) or "")
    site.view(lambda: f"hello {session.get('user', 'stranger')}")
    clients = {name: site.app.test_client() for name in ("alice", "bob")}
    for name, client in clients.items():
        client.get(f"/login/{name}")
    for _ in range(2):
        assert clients["alice"].get("/page").text == "hello alice"
        assert site.get().text == "hello stranger"
        assert clients["bob"].get("/page").text == "hello bob"


def test_a_page_that_reads_a_cookie_is_kept_for_visitors_who_have_none(site: Site) -> None:
    """A JWT in a cookie is no session."""
    site.view(lambda: f"hello {request.cookies.get('jwt')}")
    alice = {"Cookie": "_ga=1; jwt=alice"}
    assert site.get().text == "hello None"
    for _ in range(2):
        response = site.get(headers=alice)
        assert response.text == "hello alice"
        reason = "reads cookie: give private_key"
        assert response.headers["Cache-Status"] == f'bare; fwd=miss; detail="{reason}"'
    assert site.status(headers={"Cookie": "_ga=1"}) == HIT


def test_cookies_that_nobody_reads_do_not_matter(site: Site) -> None:
    site.view()
    assert site.status(headers={"Cookie": "_ga=1"}) == STORED
    assert site.status(headers={"Cookie": "_ga=2"}) == HIT


def before_request(site: Site, read: Body) -> None:
    site.app.before_request(lambda: read() and None)
    site.view()


def outer_decorator(site: Site, read: Body) -> None:
    @functools.wraps(str)
    def page() -> str:
        return "page"

    cached = site.cache.cached()(page)

    @functools.wraps(cached)
    def guard() -> Any:
        read()
        return cached()

    site.app.add_url_rule("/page", "page", guard)


@pytest.mark.parametrize("place", [before_request, outer_decorator])
@pytest.mark.parametrize(
    ("read", "reason"),
    [(lambda: session.get("user"), "session"), (lambda: request.cookies.get("jwt"), "cookie")],
)
def test_a_guard_outside_the_view_that_sees_who_asks_makes_the_request_private(
    site: Site, place: Any, read: Body, reason: str
) -> None:
    place(site, read)
    alice = logged_in(site)
    alice.set_cookie("jwt", "alice")
    for _ in range(2):
        status = alice.get("/page").headers["Cache-Status"]
        assert status == f'bare; fwd=bypass; detail="reads {reason}: give private_key"'
    assert (site.status(), site.status()) == (STORED, HIT)


def test_a_guard_outside_the_view_goes_on_guarding(site: Site) -> None:
    site.app.before_request(lambda: abort(403) if "X-Key" not in request.headers else None)
    site.view()
    assert site.get(headers={"X-Key": "1"}).status_code == 200
    assert site.get().status_code == 403


def test_a_request_with_authorization_is_neither_served_nor_kept(site: Site) -> None:
    site.view(lambda: request.headers.get("Authorization", "nobody"))
    basic = {"Authorization": "Basic YTpi"}
    assert site.status(headers=basic) == 'bare; fwd=bypass; detail="authorization"'
    assert site.get().text == "nobody"
    assert site.get(headers=basic).text == "Basic YTpi"


def test_private_key_keeps_a_page_for_each_owner(site: Site) -> None:
    site.app.add_url_rule("/login/<u>", "login", lambda u: session.update(user=u) or "")
    site.view(lambda: f"hello {session.get('user')}", private_key=lambda: session.get("user"))
    clients = {name: site.app.test_client() for name in ("alice", "bob")}
    for name, client in clients.items():
        client.get(f"/login/{name}")
    for _ in range(2):
        for name, client in clients.items():
            response = client.get("/page")
            assert response.text == f"hello {name}"
            assert "Cookie" in response.headers["Vary"]
            assert response.headers["Cache-Control"] == "private"
    assert site.status() == 'bare; fwd=bypass; detail="no owner"'


# What is stored.


def cookie() -> Response:
    response = make_response("page")
    response.set_cookie("a", "b")
    return response


def later_cookie() -> str:
    @after_this_request
    def add(response: Response) -> Response:
        response.set_cookie("a", "b")
        return response

    return "page"


def with_header(name: str, value: str) -> Body:
    return lambda: ("page", {name: value})


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (lambda: ("made", 201), 201, "status 201"),
        (lambda: ("", 301, {"Location": "/"}), 301, "status 301"),
        (lambda: ("gone", 404), 404, "status 404"),
        (lambda: ("broken", 500), 500, "status 500"),
        (lambda: abort(401), 401, "error"),
        (lambda: 1 // 0, 500, "error"),
        (cookie, 200, "set-cookie"),
        (later_cookie, 200, "after_this_request"),
        (with_header("Cache-Control", "private"), 200, "private"),
        (with_header("Cache-Control", 'private="x", max-age=60'), 200, "private"),
        (with_header("Cache-Control", "no-store"), 200, "no-store"),
        (with_header("Cache-Control", "public, No-Cache"), 200, "no-cache"),
        (with_header("Cache-Control", "max-age=0"), 200, "max-age=0"),
        (with_header("Vary", "Accept-Language"), 200, "vary"),
        (with_header("Vary", "*"), 200, "vary"),
        (lambda: (part for part in ("a", "b")), 200, "streamed"),
        (lambda: send_file(__file__), 200, "streamed"),
        (lambda: "x" * 1_000_001, 200, "too large"),
    ],
)
def test_what_may_not_be_stored_is_answered_in_full_each_time(
    site: Site, body: Body, status: int, reason: str
) -> None:
    site.app.testing = False  # as in production an error is a 500
    site.app.add_url_rule("/plain", "plain", body)
    site.view(body)
    plain = site.get("/plain")
    for _ in range(2):
        response = site.get()
        assert (response.status_code, response.data) == (status, plain.data)
        headers = dict(response.headers)
        assert headers.pop("Cache-Status") == f'bare; fwd=miss; detail="{reason}"'
        assert headers == dict(plain.headers)
    assert site.runs == 2


@pytest.mark.parametrize(
    "body",
    [
        lambda: "text",
        lambda: b"bytes \xff",
        lambda: {"json": [1, 2]},
        lambda: [1, 2],
        lambda: ("text", 200, {"X-Own": "1"}),
        lambda: jsonify(a=1),
        lambda: Response(gzip.compress(b"x", mtime=0), headers={"Content-Encoding": "gzip"}),
        with_header("Cache-Control", "public, max-age=60"),
        with_header("Content-Type", "text/csv; charset=latin-1"),
    ],
)
def test_a_page_is_sent_as_the_view_made_it(site: Site, body: Body) -> None:
    site.app.add_url_rule("/plain", "plain", body)
    site.view(body)
    plain = site.get("/plain")
    first, second = site.get(), site.get()
    for response in (first, second):
        assert (response.status_code, response.data) == (200, plain.data)
        assert set(plain.headers) <= set(response.headers)
    assert second.headers["Cache-Status"].startswith("bare; hit")
    assert site.runs == 1


def test_post_is_neither_served_nor_stored(site: Site) -> None:
    site.view(lambda: request.method)
    assert site.get(method="POST").text == "POST"
    assert site.get().text == "GET"
    response = site.get(method="POST")
    assert (response.text, response.headers["Cache-Status"]) == ("POST", "bare; fwd=method")


def test_head_stores_nothing(site: Site) -> None:
    site.view(lambda: "page" if request.method == "GET" else "")
    assert site.status(method="HEAD") == 'bare; fwd=miss; detail="head"'
    assert site.get().text == "page"


def test_head_is_served_from_the_page_of_get(site: Site) -> None:
    site.view(lambda: "page")
    page = site.get()
    head = site.get(method="HEAD")
    assert (head.data, head.headers["Content-Length"]) == (b"", "4")
    assert (head.headers["ETag"], head.headers["Cache-Status"]) == (page.headers["ETag"], HIT)
    assert site.runs == 1


def test_a_cached_response_brings_its_own_timeout(site: Site, clock: Clock) -> None:
    site.view(lambda: CachedResponse(make_response("page"), 10))
    assert site.status() == STORED
    clock.forward(9)
    assert site.status() == "bare; hit; ttl=1"
    clock.forward(1)
    assert site.status() == STORED


def test_response_filter_is_given_the_response(site: Site) -> None:
    site.view(
        lambda: ("page", {"X-Keep": "no"}), response_filter=lambda r: "X-Keep" not in r.headers
    )
    assert site.status() == 'bare; fwd=miss; detail="response_filter"'


def test_unless_goes_past_the_cache(site: Site) -> None:
    site.view(unless=lambda: "fresh" in request.args, query=())
    site.get()
    site.get("/page?fresh")
    assert site.runs == 2


def test_is_stale_and_forced_update_compute_anew(site: Site) -> None:
    site.view(
        lambda: str(site.runs),
        query=(),
        forced_update=lambda: "forced" in request.args,
        is_stale=lambda page: page.get_data(as_text=True) == request.args.get("stale"),
    )
    answers = [
        site.get(f"/page?{query}").text for query in ("", "forced", "", "stale=2", "stale=2")
    ]
    assert answers == ["1", "2", "2", "3", "3"]


def test_a_tag_drops_its_pages_at_once(site: Site) -> None:
    site.view(tags=["posts"])
    site.view(path="/other")
    for path in ("/page", "/other"):
        site.get(path)
    site.cache.invalidate("posts")
    assert [site.status(path) for path in ("/page", "/other")] == [STORED, HIT]


# What is sent.


def test_a_page_tells_its_age_and_how_long_it_stays_fresh(site: Site, clock: Clock) -> None:
    site.view(timeout=60)
    assert "Age" not in site.get().headers
    clock.forward(20.5)
    response = site.get()
    assert (response.headers["Age"], response.headers["Cache-Status"]) == (
        "20",
        "bare; hit; ttl=39",
    )
    clock.forward(39.5)
    assert site.status() == STORED


def test_a_page_that_never_expires_has_no_ttl(site: Site) -> None:
    site.view(timeout=0)
    site.get()
    assert site.status() == "bare; hit"


@pytest.mark.parametrize("runs_before", [0, 1], ids=["miss", "hit"])
def test_a_client_that_has_the_page_is_told_so(site: Site, runs_before: int) -> None:
    site.view(lambda: "page")
    tag = site.get().headers["ETag"]
    if runs_before == 0:
        site.cache.clear()
    response = site.get(headers={"If-None-Match": tag})
    assert (response.status_code, response.data, response.headers["ETag"]) == (304, b"", tag)
    assert site.get(headers={"If-None-Match": '"other"'}).data == b"page"
    assert site.get(headers={"If-None-Match": f'"other", W/{tag}'}).status_code == 304


def test_a_view_may_set_its_own_etag(site: Site) -> None:
    site.view(with_header("ETag", '"mine"'))
    assert [site.get().headers["ETag"] for _ in range(2)] == ['"mine"'] * 2


def test_the_hit_header_of_flask_caching(site: Site) -> None:
    site.view(response_hit_indication=True)
    assert "hit_cache" not in site.get().headers
    assert site.get().headers["hit_cache"] == "True"


def test_hooks_run_on_a_hit_too(site: Site) -> None:
    calls = count()
    site.app.after_request(lambda r: r.headers.add("X-Call", next(calls)) or r)
    site.view()
    assert [site.get().headers["X-Call"] for _ in range(2)] == ["0", "1"]
    assert site.runs == 1


def test_flashed_messages_are_shown_once_and_to_one(site: Site) -> None:
    @site.app.get("/do")
    def do() -> str:
        flash("done")
        return ""

    site.view(lambda: str(get_flashed_messages()))
    alice = site.app.test_client()
    alice.get("/do")
    assert [alice.get("/page").text, alice.get("/page").text] == ["['done']", "[]"]
    assert site.get().text == "[]"


def test_a_page_for_whom_the_server_knows_is_neither_served_nor_kept(site: Site) -> None:
    """A server that authenticates says who it is, and hides the header `Authorization`."""
    site.view(lambda: f"hello {request.remote_user}")
    ada = {"REMOTE_USER": "ada"}
    assert site.status(environ_overrides=ada) == 'bare; fwd=bypass; detail="authorization"'
    assert site.get().text == "hello None"


def test_a_view_that_calls_itself_stores_its_own_page(site: Site, bare: Flask) -> None:
    @bare.get("/item/<int:n>")
    @site.cache.cached()
    def item(n: int) -> Any:
        return "item 2" if n == 2 else f"moved to {item(2)}"

    for _ in range(2):
        assert [site.get(f"/item/{n}").text for n in (1, 2)] == ["moved to item 2", "item 2"]


def test_a_method_decorated_for_each_request_is_a_page_too(site: Site, bare: Flask) -> None:
    """As Flask-RESTful does with its `method_decorators`."""

    class Item(MethodView):
        def dispatch_request(self, **values: Any) -> Any:
            return site.cache.cached()(self.get)(**values)

        def get(self) -> str:
            return request.full_path

    bare.add_url_rule("/a", view_func=Item.as_view("a"))
    bare.add_url_rule("/b", view_func=Item.as_view("b"))
    for _ in range(2):
        assert [site.get(url).text for url in ("/a?x=1", "/a?x=2", "/b?x=1")] == [
            "/a?x=1",
            "/a?x=2",
            "/b?x=1",
        ]


def test_what_reads_the_session_under_a_decorator_without_wraps_is_not_kept(
    site: Site, bare: Flask
) -> None:
    """Then it is not seen to be the view, and would be kept by its name and arguments."""

    def naive(function: Body) -> Body:
        return lambda: function()

    bare.add_url_rule("/login/<u>", "login", lambda u: session.update(user=u) or "")
    cached = site.cache.cached()(lambda: f"hello {session.get('user')}")
    bare.add_url_rule("/page", "page", naive(cached))
    for name in ("alice", "bob"):
        client = bare.test_client()
        client.get(f"/login/{name}")
        assert client.get("/page").text == f"hello {name}"


@pytest.mark.parametrize("option", ["tags", "query", "vary"])
def test_one_name_need_not_be_in_a_tuple(site: Site, option: str) -> None:
    name = {"tags": "posts", "query": "page", "vary": "Accept-Language"}[option]
    site.view(lambda: str(site.runs), **{option: name})
    site.get("/page?page=1")
    site.cache.invalidate("posts")
    site.get("/page?page=2", headers={"Accept-Language": "de"})
    assert site.runs == 2


def test_an_age_is_that_of_our_own_page(site: Site) -> None:
    site.view(with_header("Age", "1000"))
    site.get()
    assert site.get().headers.getlist("Age") == ["0"]
