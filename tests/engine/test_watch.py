"""Everything that a page reads of its request is part of its key, or the page is not kept."""

import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import (
    Blueprint,
    Flask,
    Request,
    Response,
    abort,
    after_this_request,
    appcontext_pushed,
    current_app,
    flash,
    g,
    get_flashed_messages,
    has_request_context,
    jsonify,
    make_response,
    render_template,
    render_template_string,
    request,
    request_started,
    send_from_directory,
    session,
    stream_with_context,
    url_for,
)
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from werkzeug.datastructures import Headers
from werkzeug.routing import BaseConverter
from werkzeug.test import TestResponse

from shop import create_app
from shop.caching import cache as app_cache
from shop.caching import visitor
from shop.caching.cache import Cache
from shop.models import Post, db
from tests.engine.fixtures import Clock

View = Callable[[], Any]


def outcome(answer: TestResponse) -> str:
    """Return hit, stored, or why the page was not kept or the cache not asked."""
    said = answer.headers["Cache-Status"]
    if "; hit" in said:
        return "hit"
    return said.partition('detail="')[2].strip('"') or said.split("; ")[-1]


class Site:
    """An app with cached pages, as a client without cookies sees it."""

    def __init__(self, app: Flask, cache: Cache) -> None:
        self.app, self.cache = app, cache
        self.app.url_map.strict_slashes = False

    def page(self, view: View, path: str = "/page", **options: Any) -> None:
        """Add a cached page that answers with `view()`, and a plain one below /plain."""
        cached = self.cache.cached(**options)(lambda **_: view())
        self.app.add_url_rule(path, path, cached)
        self.app.add_url_rule(f"/plain{path}", f"plain{path}", lambda **_: view())

    def get(self, path: str = "/page", **more: Any) -> TestResponse:
        return self.app.test_client(use_cookies=False).get(path, buffered=True, **more)

    def outcomes(self, *headers: dict[str, str], path: str = "/page") -> list[str]:
        """Return what the cache did for each request, whose answers must be the plain ones."""
        done = []
        for given in headers:
            answer = self.get(path, headers=given)
            if f"plain{path}" in self.app.view_functions:
                plain = self.get(f"/plain{path}", headers=given)
                assert (answer.status_code, answer.data) == (plain.status_code, plain.data)
            done.append(outcome(answer))
        return done


@pytest.fixture
def site(bare: Flask, clock: Clock) -> Site:
    """Return a site without an app context around it, whose `g` all requests would share."""
    cache = Cache(bare)
    cache.clock = clock
    return Site(bare, cache)


# Headers.


def item(values: Any, name: str) -> Any:
    """Return `values[name]`, "" if there is none."""
    try:
        return values[name]
    except KeyError:
        return ""


@pytest.mark.parametrize(
    ("read", "header"),
    [
        (lambda: request.accept_languages.best, "Accept-Language"),
        (lambda: request.accept_mimetypes.best, "Accept"),
        (lambda: request.accept_charsets.best, "Accept-Charset"),
        (lambda: request.accept_encodings.best, "Accept-Encoding"),
        (lambda: request.user_agent.string, "User-Agent"),
        (lambda: request.referrer, "Referer"),
        (lambda: request.origin, "Origin"),
        (lambda: request.cache_control.max_age, "Cache-Control"),
        (lambda: str(request.range), "Range"),
        (lambda: str(request.if_range), "If-Range"),
        (lambda: request.if_match.to_header(), "If-Match"),
        (lambda: request.access_route[:1], "X-Forwarded-For"),
        (lambda: request.max_forwards, "Max-Forwards"),
        (lambda: str(request.date), "Date"),
        (lambda: request.content_encoding, "Content-Encoding"),
        (lambda: request.headers.get("X-Tenant"), "X-Tenant"),
        (lambda: request.headers.get("x-tenant", type=str), "X-Tenant"),
        (lambda: request.headers.getlist("X-Tenant"), "X-Tenant"),
        (lambda: request.headers.get_all("X-Tenant"), "X-Tenant"),
        (lambda: "X-Tenant" in request.headers, "X-Tenant"),
        (lambda: item(request.headers, "X-Tenant"), "X-Tenant"),
        (lambda: request.is_json, "Content-Type"),
        (lambda: request.mimetype, "Content-Type"),
    ],
)
def test_a_header_that_is_read_keeps_the_page_of_those_who_send_it_out(
    site: Site, read: View, header: str
) -> None:
    site.page(lambda: [read()])
    site.page(lambda: [read()], "/vary", vary=[header])
    values = [{header: value} for value in ("1", "de", "text/html")]
    reason = f"reads {header.lower()}: add it to vary"
    if header == "X-Forwarded-For":  # which says the address
        reason = outcome(site.get(headers=values[0]))
        assert reason.startswith("reads ")
    assert site.outcomes(*values) == [reason] * 3
    if header not in ("User-Agent", "X-Forwarded-For"):  # the client always has one
        assert site.outcomes({}, {}, values[0], {}) == ["stored", "hit", reason, "hit"]
    if header != "X-Forwarded-For":
        assert site.outcomes(*values, *values, path="/vary") == ["stored"] * 3 + ["hit"] * 3


@pytest.mark.parametrize(
    "read",
    [
        lambda: dict(request.headers),
        lambda: [name for name, _ in request.headers],
        lambda: [*request.headers.keys()],
        lambda: [*request.headers.values()],
        lambda: [*request.headers.items()],
        lambda: len(request.headers),
        lambda: str(request.headers),
        lambda: request.headers.to_wsgi_list(),
        lambda: Headers(request.headers).get("X-Tenant"),
    ],
)
def test_a_page_that_looks_through_all_headers_is_not_kept(site: Site, read: View) -> None:
    site.page(lambda: [read()])
    assert all(it.startswith("reads headers: ") for it in site.outcomes({}, {"X-Tenant": "a"}, {}))


def test_the_name_of_a_header_from_the_visitor_is_harmless_in_the_answer(site: Site) -> None:
    site.page(lambda: request.headers.get(request.args["name"], ""))
    answer = site.get('/page?name=a";b', headers={'A";B': "x"})
    assert 'detail="reads a??b: add it to vary"' in answer.headers["Cache-Status"]


@pytest.mark.parametrize("read", [lambda: request.remote_addr, lambda: request.access_route])
def test_a_page_that_reads_the_clients_address_is_not_kept(site: Site, read: View) -> None:
    site.page(lambda: [read()])
    for address in ("1.1.1.1", "2.2.2.2"):
        answer = site.get(environ_base={"REMOTE_ADDR": address})
        assert address in answer.text
        assert outcome(answer) == "reads address: give make_cache_key"


# Cookies and the session.

THEIRS = {"Cookie": "theirs=1"}


@pytest.mark.parametrize(
    "read",
    [
        lambda: request.cookies.get("own"),
        lambda: request.cookies.get(key="own"),
        lambda: request.cookies.getlist("own"),
        lambda: "own" in request.cookies,
        lambda: item(request.cookies, "own"),
    ],
)
def test_a_page_that_reads_one_cookie_is_kept_for_those_who_lack_it(site: Site, read: View) -> None:
    site.page(lambda: [read()])
    own, reason = {"Cookie": "theirs=1; own=2"}, "reads cookie: give private_key"
    assert site.outcomes(own, {}, THEIRS, own) == [reason, "stored", "hit", reason]
    assert "Cookie" in site.get().headers["Vary"]


@pytest.mark.parametrize(
    "read",
    [
        lambda: dict(request.cookies),
        lambda: {**request.cookies},
        lambda: request.cookies.to_dict(),
        lambda: [*request.cookies],
        lambda: [*request.cookies.items()],
        lambda: len(request.cookies),
        lambda: bool(request.cookies),
        lambda: request.cookies == {},
        lambda: repr(request.cookies),
        lambda: [*request.cookies.copy()],
        lambda: request.headers.get("Cookie"),
    ],
)
def test_a_page_that_reads_all_cookies_is_kept_for_those_who_have_none(
    site: Site, read: View
) -> None:
    site.page(lambda: [read()])
    reason = "reads cookie: give private_key"
    assert site.outcomes(THEIRS, {}, {}, THEIRS) == [reason, "stored", "hit", reason]


@pytest.mark.parametrize(
    "read",
    [
        lambda: session.get("user"),
        lambda: "user" in session,
        lambda: [*session.items()],
        lambda: len(session),
        lambda: session.permanent,
        lambda: get_flashed_messages(),
    ],
)
@pytest.mark.parametrize("name", ["session", "sid"])
def test_a_page_that_reads_the_session_is_kept_for_those_who_have_none(
    site: Site, read: View, name: str
) -> None:
    site.app.config["SESSION_COOKIE_NAME"] = name
    site.page(lambda: [read()])
    client = site.app.test_client()
    with client.session_transaction() as values:
        values["user"] = "alice"
    reason = "reads session: give private_key"
    assert outcome(client.get("/page")) == reason
    assert site.outcomes({}, THEIRS) == ["stored", "hit"]
    assert outcome(client.get("/page")) == reason
    assert site.get().headers["Vary"] == "Cookie"


@pytest.mark.parametrize(
    "change",
    [
        lambda: session.update(seen=True),
        lambda: str(session.setdefault("seen", 1)),
        functools.partial(flash, "hello"),
        lambda: session.clear(),
        lambda: setattr(session, "permanent", True),
        lambda: setattr(session, "modified", True),
    ],
)
def test_a_page_that_changes_the_session_is_not_kept_even_for_an_owner(
    site: Site, change: View
) -> None:
    site.page(lambda: change() or "page", private_key=lambda: "alice")
    assert site.outcomes({}, {}) == ["changes session"] * 2


def test_a_flashed_message_on_a_private_page_is_shown_once(site: Site) -> None:
    @site.app.get("/flash")
    def save() -> str:
        flash("saved")
        return ""

    site.page(lambda: get_flashed_messages(), private_key=lambda: "alice")
    client = site.app.test_client()
    client.get("/flash")
    answers = [client.get("/page") for _ in range(3)]
    assert [answer.json for answer in answers] == [["saved"], [], []]
    assert [outcome(answer) for answer in answers] == ["changes session", "stored", "hit"]


def test_a_session_that_a_hook_renews_leaves_private_pages_alone(site: Site) -> None:
    site.app.before_request(lambda: setattr(session, "permanent", True))
    site.page(lambda: f"hello {session.get('user')}", private_key=lambda: "alice")
    assert site.outcomes({}, {}) == ["stored", "hit"]


# Hooks, and all else that runs before the page.


def tenant() -> None:
    g.tenant = request.headers.get("X-Tenant", "none")


def by_app_hook(app: Flask) -> Flask | Blueprint:
    app.before_request(tenant)
    return app


def by_blueprint_hook(app: Flask) -> Flask | Blueprint:
    blueprint = Blueprint("blueprint", __name__)
    blueprint.before_request(tenant)
    return blueprint


def by_hook_of_a_parent(app: Flask) -> Flask | Blueprint:
    parent, child = Blueprint("parent", __name__), Blueprint("child", __name__)
    parent.before_request(tenant)
    parent.register_blueprint(child)
    app.extensions["parent"] = parent
    return child


def by_preprocessor(app: Flask) -> Flask | Blueprint:
    app.url_value_preprocessor(lambda endpoint, values: tenant())
    return app


def by_receiver(app: Flask) -> Flask | Blueprint:
    app.extensions["receiver"] = lambda *_, **__: tenant()  # it is held weakly
    request_started.connect(app.extensions["receiver"], app)
    return app


@pytest.mark.parametrize(
    "place", [by_app_hook, by_blueprint_hook, by_hook_of_a_parent, by_preprocessor, by_receiver]
)
def test_a_header_that_is_read_before_the_page_keeps_it_out(
    bare: Flask, place: Callable[[Flask], Flask | Blueprint]
) -> None:
    where = place(bare)  # before the cache is bound
    cache = Cache(bare)
    where.route("/page")(cache.cached()(lambda: g.tenant))
    if where is not bare:
        bare.register_blueprint(bare.extensions.get("parent", where))
    site = Site(bare, cache)
    reason = "reads x-tenant: add it to vary"
    for name in ("a", "b"):
        answer = site.get(headers={"X-Tenant": name})
        assert (answer.text, outcome(answer)) == (name, reason)
    assert site.outcomes({}, {}, {"X-Tenant": "a"}) == ["stored", "hit", reason]
    assert site.get().text == "none"


class Reading(BaseConverter):
    """A URL converter that looks at a header, a cookie or the session."""

    def to_python(self, value: str) -> str:
        read = {"header": request.headers, "cookie": request.cookies, "session": session}
        return read[value].get("Who", "nobody")  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("what", ["header", "cookie", "session"])
def test_a_url_converter_that_reads_the_request_keeps_the_page_out(bare: Flask, what: str) -> None:
    bare.url_map.converters["reading"] = Reading
    cache = Cache(bare)
    bare.add_url_rule("/<reading:who>", "page", cache.cached()(lambda who: who))
    for name in ("alice", "bob"):
        client = bare.test_client()
        client.set_cookie("Who", name)
        with client.session_transaction() as values:
            values["Who"] = name
        answer = client.get(f"/{what}", headers={"Who": name})
        assert answer.text == name
        assert outcome(answer).startswith("reads ")
    answers = [bare.test_client().get(f"/{what}") for _ in range(2)]
    assert [(answer.text, outcome(answer)) for answer in answers] == [
        ("nobody", "stored"),
        ("nobody", "hit"),
    ]


@pytest.mark.parametrize(
    "header", ["X-Forwarded-Host", "X-Forwarded-Prefix", "X-Tenant", "Accept-Language", "Referer"]
)
def test_hooks_may_not_read_each_header_freely(site: Site, header: str) -> None:
    site.app.before_request(lambda: request.headers.get(header) and None)
    site.page(lambda: "page")
    assert site.outcomes({header: "a"}) == [f"reads {header.lower()}: add it to vary"]


HOOK_READS: list[View] = [
    lambda: request.remote_addr,
    lambda: request.user_agent.string,
    lambda: request.access_route,
    lambda: request.headers.get("X-Request-ID"),
    lambda: request.headers.get("traceparent"),
    lambda: request.accept_encodings.best,
]


@pytest.mark.parametrize("read", HOOK_READS)
def test_a_hook_may_read_who_asks_for_a_log(site: Site, read: View) -> None:
    site.app.before_request(lambda: setattr(g, "seen", read()))
    site.app.before_request(lambda: setattr(request, "seen", g.seen))
    site.page(lambda: "page")
    one, other = ({"User-Agent": name, "X-Request-ID": name} for name in ("a", "b"))
    assert site.outcomes(one, other) == ["stored", "hit"]


@pytest.mark.parametrize(
    "take",
    [
        lambda: g.seen,
        lambda: g.get("seen"),
        lambda: g.pop("seen"),
        lambda: g.setdefault("seen", ""),
        lambda: "seen" in g,
        lambda: [*g],
        lambda: request.seen,  # type: ignore[attr-defined]
        lambda: getattr(request, "seen", ""),
    ],
)
def test_a_page_that_takes_what_such_a_hook_left_is_not_kept(site: Site, take: View) -> None:
    @site.app.before_request
    def look() -> None:
        g.seen = request.seen = request.user_agent.string  # type: ignore[attr-defined]

    @site.app.after_request
    def still_there(response: Response) -> Response:
        if "pop" not in request.args:
            assert request.seen == "browser"  # type: ignore[attr-defined]
        return response

    site.page(lambda: [take()])
    for _ in range(2):
        answer = site.get("/page?pop", headers={"User-Agent": "browser"})
        assert outcome(answer).startswith("reads g: ")
        assert answer.json in ([["seen"]], [True], ["browser"])


def test_a_page_may_use_g_for_itself(site: Site) -> None:
    @site.app.before_request
    def look() -> None:
        g.seen = request.remote_addr

    @site.app.teardown_request
    def both(_: Any) -> None:
        assert g.seen == "127.0.0.1"
        assert g.get("own", 1) == 1

    def view() -> str:
        g.own = 1
        assert g.get("own") == g.own
        assert "own" in g
        assert g.get("other") is None
        return "page"

    site.page(view)
    assert site.outcomes({}, {}) == ["stored", "hit"]


# Callables that are part of the key.


@pytest.mark.parametrize(
    "options",
    [
        {"make_cache_key": lambda *_, **__: request.headers.get("X-Tenant")},
        {"key_prefix": lambda: request.headers.get("X-Tenant", "")},
        {"unless": lambda: request.headers.get("X-Tenant") is not None},
        {"forced_update": lambda: request.headers.get("X-Tenant") is not None},
    ],
)
def test_a_page_may_read_again_what_its_callables_read(site: Site, options: Any) -> None:
    site.page(lambda: request.headers.get("X-Tenant", ""), **options)
    for _ in range(2):
        for name in ("a", "b"):
            assert site.get(headers={"X-Tenant": name}).text == name


@pytest.mark.parametrize("name", ["make_cache_key", "key_prefix"])
def test_a_session_that_is_in_the_key_may_be_read(site: Site, name: str) -> None:
    options: Any = {name: lambda *_, **__: session.get("language", "")}
    site.page(lambda: f"in {session.get('language')}", **options)
    for expected in ("stored", "hit"):
        for language in ("de", "en"):
            client = site.app.test_client()
            with client.session_transaction() as values:
                values["language"] = language
            answer = client.get("/page")
            assert (answer.text, outcome(answer)) == (f"in {language}", expected)


@pytest.mark.parametrize("name", ["unless", "forced_update"])
def test_a_session_that_is_not_in_the_key_keeps_the_page_out(site: Site, name: str) -> None:
    options: Any = {name: lambda: session.get("admin")}
    site.page(lambda: f"hello {session.get('user')}", **options)
    for user in ("alice", "bob"):
        client = site.app.test_client()
        with client.session_transaction() as values:
            values["user"] = user
        assert client.get("/page").text == f"hello {user}"


@pytest.mark.parametrize("name", ["unless", "forced_update", "timeout"])
def test_what_is_asked_beside_the_key_keeps_no_page_out_that_takes_nothing(
    site: Site, name: str
) -> None:
    options: Any = {name: lambda: 300 if session.get("admin") or name == "timeout" else None}
    site.page(lambda: "page", **options)
    for expected in ("stored", "hit"):
        client = site.app.test_client()
        with client.session_transaction() as values:
            values["user"] = expected
        assert outcome(client.get("/page")) == expected


# Private requests.


@pytest.mark.parametrize("header", visitor.PRIVATE_HEADERS)
def test_a_request_with_a_private_header_goes_past_the_cache(site: Site, header: str) -> None:
    site.page(lambda: request.environ.get(visitor.environ_key(header), ""))
    private = {header: "alice"}
    assert site.outcomes({}, private, {}, private)[1::2] == ["authorization"] * 2


def test_the_private_headers_are_a_setting(bare: Flask) -> None:
    bare.config["CACHE_PRIVATE_HEADERS"] = ["X-Own"]
    site = Site(bare, Cache(bare))
    site.page(lambda: "page")
    assert site.outcomes({"X-API-Key": "a"}, {"X-Own": "a"}) == ["stored", "authorization"]


def owner() -> str | None:
    return request.headers.get("X-API-Key")


def test_private_key_lifts_the_rules_for_what_is_private(site: Site) -> None:
    site.page(lambda: f"hello {owner()} {request.authorization}", private_key=owner)
    for expected in ("stored", "hit"):
        for name in ("a", "b"):
            answer = site.get(headers={"X-API-Key": name, "Authorization": "Bearer x"})
            assert (answer.text, outcome(answer)) == (f"hello {name} Bearer x", expected)
            assert answer.headers["Cache-Control"] == "private"
    answer = site.get(headers={"Authorization": "Bearer x"})
    assert (answer.text, outcome(answer)) == ("hello None Bearer x", "no owner")


def test_private_key_lifts_no_other_rule(site: Site) -> None:
    site.page(lambda: str(request.accept_languages.best), private_key=lambda: "alice")
    assert site.outcomes({"Accept-Language": "de"}) == ["reads accept-language: add it to vary"]


@pytest.mark.parametrize("said", ["public, max-age=60", "private, max-age=60"])
def test_a_private_page_may_say_its_own_cache_control(site: Site, said: str) -> None:
    site.page(lambda: ("page", {"Cache-Control": said}), private_key=lambda: "alice")
    for expected in ("stored", "hit"):
        answer = site.get()
        assert (answer.headers.getlist("Cache-Control"), outcome(answer)) == ([said], expected)


def test_private_pages_of_a_header_or_of_g_say_so_too(site: Site) -> None:
    site.app.before_request(lambda: setattr(g, "owner", owner()))
    site.page(lambda: "page", private_key=lambda: g.owner)
    for _ in range(2):
        answer = site.get(headers={"X-API-Key": "a"})
        assert answer.headers["Cache-Control"] == "private"


# Bodies, and requests of other classes.


@pytest.mark.parametrize(
    "body", [{"json": {"q": "cats"}}, {"data": "q=cats"}, {"data": {"q": "cats"}}]
)
def test_a_get_with_a_body_goes_past_the_cache(site: Site, body: dict[str, Any]) -> None:
    site.page(lambda: [request.get_data(as_text=True)])
    assert outcome(site.get(**body)) == "body"
    assert (site.get().json, site.outcomes({})) == ([""], ["hit"])
    assert outcome(site.get(headers={"Transfer-Encoding": "chunked"})) == "body"
    assert outcome(site.get(headers={"Content-Length": "0"})) == "hit"


@pytest.mark.parametrize(
    "read",
    [
        lambda: request.get_data(as_text=True),
        lambda: request.data.decode(),
        lambda: request.stream.read().decode(),
        lambda: request.form.to_dict(),
        lambda: request.values.to_dict(),
        lambda: request.get_json(silent=True),
    ],
)
def test_an_absent_body_does_no_harm(site: Site, read: View) -> None:
    site.page(lambda: [read()])
    assert site.outcomes({}, {}) == ["stored", "hit"]


def test_a_body_of_http_2_need_not_be_announced(site: Site) -> None:
    site.page(lambda: [request.get_data(as_text=True)])
    http_2 = {"SERVER_PROTOCOL": "HTTP/2", "wsgi.input_terminated": True}
    assert outcome(site.get(environ_overrides=http_2)) == "reads body"


def test_a_request_of_another_class_goes_past_the_cache(site: Site) -> None:
    site.page(lambda: "page")
    site.app.request_class = Request
    assert site.outcomes({}) == ["request_class: set it before cache.init_app"]


def test_an_apps_own_request_class_is_watched(bare: Flask) -> None:
    class Own(Request):
        user_agent = "mine"  # type: ignore[assignment]
        dict_storage_class = dict  # type: ignore[assignment]

        @property
        def tenant(self) -> str:
            return self.headers.get("X-Tenant", "")

    bare.request_class = Own
    site = Site(bare, Cache(bare))
    Cache(bare)  # a second one changes nothing
    site.page(lambda: request.tenant + request.user_agent)  # type: ignore[attr-defined]
    reason = "reads x-tenant: add it to vary"
    assert site.outcomes({"X-Tenant": "a"}, {}, {}) == [reason, "stored", "hit"]


# Pages that read nothing that is not in the key.


class Told(logging.Handler):
    """Formats each record with data of the request."""

    def filter(self, record: logging.LogRecord) -> bool:
        if has_request_context():
            record.address, record.agent = request.remote_addr, request.user_agent.string
        return True

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)

    def format(self, record: logging.LogRecord) -> str:
        return f"{request.headers.get('Referer')} {request.cookies.get('own')} {record.msg}"


@pytest.fixture
def told() -> Iterator[None]:
    handler = Told()
    logging.getLogger("bare").addHandler(handler)
    yield
    logging.getLogger("bare").removeHandler(handler)


def logging_view() -> str:
    current_app.logger.error("Somebody looks at %s", request.path)
    return "page"


def setting_g() -> str:
    g.number = 1
    return f"{g.number} {g.get('other')}"


NAME = "{" * 2 + " request.path " + "}" * 2


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(
    "view",
    [
        lambda: jsonify(a=1),
        lambda: render_template_string(NAME),
        lambda: url_for("/page"),
        lambda: url_for("/page", _external=True),
        lambda: request.path,
        lambda: request.full_path,
        lambda: dict(request.args),
        lambda: request.query_string,
        lambda: request.endpoint,
        lambda: request.host,
        lambda: request.host_url,
        lambda: request.url,
        lambda: request.base_url,
        lambda: str(request.is_secure),
        lambda: request.script_root or "none",
        lambda: request.scheme,
        lambda: request.method,
        lambda: str(request.url_rule),
        logging_view,
        setting_g,
    ],
)
def test_a_page_of_what_is_in_its_key_is_a_hit_the_second_time(site: Site, view: View) -> None:
    site.app.add_url_rule("/gone", "gone", lambda: abort(404))
    site.app.before_request(lambda: setattr(g, "began", 1))
    site.page(view)
    one, other = ({"User-Agent": it, "Cookie": f"own={it}", "Accept-Language": it} for it in "ab")
    answers = [site.get(headers=headers) for headers in (one, other)]
    assert [outcome(answer) for answer in answers] == ["stored", "hit"]
    assert site.get("/gone").status_code == 404


def test_a_read_for_a_log_does_not_hide_the_read_of_the_page(site: Site, told: None) -> None:
    def view() -> str:
        logging_view()
        return request.user_agent.string

    site.page(view)
    reason = "reads user-agent: add it to vary"
    assert site.outcomes({"User-Agent": "a"}, {"User-Agent": "b"}) == [reason] * 2


def test_a_read_of_a_hook_does_not_hide_the_read_of_the_page(site: Site) -> None:
    site.app.before_request(lambda: request.user_agent.string and None)
    site.page(lambda: request.user_agent.string)
    reason = "reads user-agent: add it to vary"
    assert site.outcomes({"User-Agent": "a"}, {"User-Agent": "b"}) == [reason] * 2


def test_pages_of_a_database_are_kept(settings: dict[str, Any]) -> None:
    app = create_app(settings)

    @app.get("/titles")
    @app_cache.cached()
    def titles() -> ResponseReturnValue:
        return [*db.session.scalars(select(Post.title))]

    with app.app_context():
        from shop.models import fill

        fill()
    answers = [app.test_client().get("/titles") for _ in range(2)]
    assert [outcome(answer) for answer in answers] == ["stored", "hit"]
    assert answers[0].json == answers[1].json


# What a view says of its page.


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([("Cache-Control", "max-age=60"), ("Cache-Control", "private")], "private"),
        ([("Cache-Control", "public"), ("Cache-Control", "NO-STORE")], "no-store"),
        ([("Cache-Control", "public"), ("cache-control", 'no-cache="Set-Cookie"')], "no-cache"),
        ([("Cache-Control", "max-age=60"), ("Cache-Control", "max-age=0")], "max-age=0"),
        ([("Cache-Control", "max-age=-1")], "max-age=0"),
        ([("Cache-Control", "max-age=00")], "max-age=0"),
        ([("Cache-Control", "max-age=")], "max-age=0"),
        ([("Cache-Control", "max-age")], "max-age=0"),
        ([("Cache-Control", "max-age=soon")], "max-age=0"),
        ([("Cache-Control", "public, max-age = 0")], "max-age=0"),
        ([("Cache-Control", "max-age=60, s-maxage=0")], "s-maxage=0"),
        ([("Pragma", "no-cache")], "no-cache"),
        ([("Pragma", "x"), ("Pragma", "No-Cache")], "no-cache"),
        ([("Expires", "0")], "expired"),
        ([("Expires", "-1"), ("Cache-Control", "max-age=60")], "expired"),
        ([("Expires", "Wed, 21 Oct 2015 07:28:00 GMT")], "expired"),
        ([("Vary", "Cookie"), ("Vary", "X-Tenant")], "vary"),
        ([("Vary", "Accept-Encoding"), ("Vary", "*")], "vary"),
    ],
)
def test_each_line_of_a_header_counts(
    site: Site, lines: list[tuple[str, str]], reason: str
) -> None:
    site.page(lambda: ("page", Headers(lines)), vary=["Cookie", "Accept-Encoding"])
    assert site.outcomes({}, {}) == [reason] * 2


@pytest.mark.parametrize(
    ("said", "fresh"),
    [
        ("max-age=60", 60),
        ('max-age="60"', 60),
        ("max-age=600", 300),
        ("s-maxage=30, max-age=60", 30),
        ("max-age=99999999999999999999", 300),
        ("public", 300),
    ],
)
def test_a_page_is_fresh_for_the_smaller_of_timeout_and_max_age(
    site: Site, clock: Clock, said: str, fresh: int
) -> None:
    site.page(lambda: ("page", {"Cache-Control": said}), timeout=300)
    site.get()
    clock.forward(fresh - 1)
    assert "hit; ttl=1" in site.get().headers["Cache-Status"]
    clock.forward(1)
    assert site.outcomes({}) == ["stored"]


# Werkzeug's `freeze` reads the file and does not close it.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_file_that_is_read_to_its_end_is_kept(site: Site, tmp_path: Any) -> None:
    (tmp_path / "file.txt").write_text("text")

    def view() -> Response:
        response = send_from_directory(tmp_path, "file.txt", max_age=60)
        if "freeze" in request.args:
            response.freeze()
        return response

    site.page(view)
    assert site.outcomes({}, {}) == ["streamed"] * 2
    assert [outcome(site.get("/page?freeze")) for _ in range(2)] == ["stored", "hit"]
    assert site.get("/page?freeze").text == "text"


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (lambda: Response(stream_with_context(iter("page"))), "streamed"),
        (lambda: after_this_request(lambda response: response) and "page", "after_this_request"),
    ],
)
def test_a_page_that_is_not_ready_is_not_kept(site: Site, view: View, reason: str) -> None:
    site.page(view)
    assert site.outcomes({}, {}) == [reason] * 2


# The key of a page.


def test_the_query_in_any_order_but_the_values_of_a_name_in_theirs(site: Site) -> None:
    site.page(lambda: request.args.getlist("u"), query_string=True)
    outcomes = [outcome(site.get(f"/page?{q}")) for q in ("u=1&u=2&a=", "a=&u=1&u=2", "u=2&u=1&a=")]
    assert outcomes == ["stored", "hit", "stored"]
    assert site.get("/page?u=2&u=1&a=").json == ["2", "1"]


def test_make_cache_key_of_a_view_gives_the_key_of_its_page(site: Site) -> None:
    view = site.cache.cached()(lambda number: f"page {number}")
    site.app.add_url_rule("/<int:number>", "page", view)
    site.app.test_client().get("/1?a=b")
    with site.app.test_request_context("/1?a=b"):
        key = view.make_cache_key(number=1)
        assert site.cache.has(key)
        assert site.cache.delete(key)
    assert outcome(site.get("/1?a=b")) == "stored"
    with site.app.app_context(), pytest.raises(RuntimeError, match="give it a tag"):
        view.make_cache_key(number=1)


def test_make_cache_key_cannot_be_set(site: Site) -> None:
    site.page(lambda: "page")
    view: Any = site.app.view_functions["/page"]
    view.make_cache_key = lambda: "key"
    with pytest.raises(TypeError, match="argument of the decorator"):
        site.get()


# Exceptions and other contexts.


def test_a_view_that_raises_leaves_no_watch_behind(site: Site) -> None:
    def view() -> str:
        if request.headers.get("X-Tenant"):
            raise ZeroDivisionError
        return "page"

    site.app.testing = False
    site.app.before_request(lambda: setattr(g, "address", request.remote_addr))
    site.app.register_error_handler(ZeroDivisionError, lambda error: (str(g.address), 500))
    site.page(view)
    answer = site.get(headers={"X-Tenant": "a"})
    assert (answer.status_code, answer.text) == (500, "127.0.0.1")
    assert site.outcomes({}, {}) == ["stored", "hit"]


def test_a_page_may_make_requests_of_its_own(site: Site) -> None:
    def view() -> str:
        with site.app.test_request_context(headers={"X-Tenant": "inner"}):
            inner = request.headers["X-Tenant"] + str(session.get("user"))
        return inner + site.app.test_client().get("/other", headers={"X-Tenant": "own"}).text

    site.page(lambda: request.headers["X-Tenant"], "/other")
    site.page(view)
    assert site.outcomes({}, {}) == ["stored", "hit"]


def test_a_page_whose_hooks_left_something_may_make_requests_of_its_own(site: Site) -> None:
    @site.app.before_request
    def look() -> None:
        g.seen = request.user_agent.string

    def view() -> str:
        with site.app.test_request_context():
            return str(g.get("seen"))

    site.page(view)
    for agent in ("a", "b"):
        assert site.get(headers={"User-Agent": agent}).text in (agent, "None")


def test_the_page_of_a_helper_that_reads_the_session_is_not_kept(site: Site) -> None:
    helper = site.cache.cached()(lambda: session.get("user"))
    site.page(lambda: f"hello {helper()}")
    for name in ("alice", "bob"):
        client = site.app.test_client()
        with client.session_transaction() as values:
            values["user"] = name
        assert client.get("/page").text == f"hello {name}"


def test_appcontext_receivers_may_use_the_app(site: Site) -> None:
    seen: list[Any] = []
    with appcontext_pushed.connected_to(lambda *_, **__: seen.append(current_app.name), site.app):
        site.page(lambda: make_response("page"))
        assert site.outcomes({}, {}) == ["stored", "hit"]
    assert seen


def test_a_template_file_is_kept(settings: dict[str, Any], tmp_path: Any) -> None:
    app = create_app(settings)
    (tmp_path / "page.html").write_text(NAME)
    app.jinja_loader = __import__("jinja2").FileSystemLoader(tmp_path)
    app.add_url_rule("/page", "page", app_cache.cached()(lambda: render_template("page.html")))
    answers = [app.test_client().get("/page") for _ in range(2)]
    assert [outcome(answer) for answer in answers] == ["stored", "hit"]
