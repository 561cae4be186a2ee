"""With and without `cached`, the same requests in the same order get the same answers."""

import os
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, g, get_flashed_messages, request, session
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from shop.caching.cache import Cache

Ask = dict[str, Any]
TENANTS = [{"headers": {"X-Tenant": it}} for it in "ab"]
LANGUAGES = [{"headers": {"Accept-Language": it}} for it in ("de", "en")]
AGENTS = [{"headers": {"User-Agent": it}} for it in "ab"]
KEYS = [{"headers": {"X-API-Key": it}} for it in "ab"]
TOKENS = [{"headers": {"Authorization": f"Bearer {it}"}} for it in "ab"]
COOKIES = [{"headers": {"Cookie": it}} for it in ("own=1", "own=2; theirs=1", "theirs=1")]
USERS = [{"client": it} for it in ("alice", "bob")]
ADDRESSES = [{"REMOTE_ADDR": it} for it in ("1.1.1.1", "2.2.2.2")]
BODIES = [{"data": f'{{"q": "{it}"}}', "content_type": "application/json"} for it in ("x", "y")]
PATHS = [{"path": it} for it in ("/page?a=1", "/page?a=2&a=1", "/other")]
#: What a view, or a hook before it, may read, as text; and requests that differ by it.
READS: dict[str, tuple[Callable[[], Any], list[Ask]]] = {
    "header": (lambda: request.headers.get("X-Tenant"), TENANTS),
    "language": (lambda: request.accept_languages.best, LANGUAGES),
    "agent": (lambda: request.user_agent.string, AGENTS),
    "all headers": (lambda: sorted(dict(request.headers)), [*TENANTS, *LANGUAGES]),
    "key": (lambda: request.headers.get("X-API-Key"), KEYS),
    "authorization": (lambda: request.authorization, TOKENS),
    "cookie": (lambda: request.cookies.get("own"), COOKIES),
    # The session's is signed with the time.
    "cookies": (lambda: sorted({**request.cookies, "session": ""}.items()), COOKIES),
    "session": (lambda: session.get("user"), USERS),
    "flashes": (lambda: get_flashed_messages(), USERS),
    "visits": (lambda: session.update(n=session.get("n", 0) + 1) or session["n"], USERS),
    "address": (lambda: request.remote_addr, ADDRESSES),
    "route": (lambda: request.access_route, ADDRESSES),
    "args": (lambda: sorted(request.args.items(multi=True)), PATHS),
    "json": (lambda: request.get_json(silent=True), BODIES),
    "body": (lambda: request.get_data(as_text=True), BODIES),
    "path": (lambda: request.path, PATHS),
    "host": (lambda: request.host, [{"headers": {"Host": it}} for it in ("a.b", "c.d")]),
    "g": (lambda: g.get("left"), []),
    "left": (lambda: getattr(request, "left", None), []),
}
ANSWERS: list[Callable[[str], Any]] = [
    lambda text: text,
    lambda text: {"text": text},
    lambda text: (text, 200, {"Cache-Control": "max-age=60", "X-Own": "1"}),
    lambda text: (text, 404),
    lambda text: Response(text, headers={"Vary": "X-Tenant"}),
]

#: What hooks read, and what the view reads: of its own, or what they left.
NAMES = st.sampled_from(sorted(READS))
SITES: st.SearchStrategy[Any] = st.one_of(
    st.tuples(st.just([]), st.lists(NAMES, min_size=1, max_size=2)),
    st.tuples(st.lists(NAMES, min_size=1, max_size=2), st.sampled_from([["g"], ["left"], []])),
)


def with_requests(site: Any) -> st.SearchStrategy[Any]:
    """Draw requests that differ by what this site reads, so that a mix-up would show."""
    of_reads = [ask for name in (*site[0], *site[1]) for ask in READS[name][1]]
    others = [{"method": "HEAD"}, {"method": "POST"}, *PATHS[:1], *USERS[:1], *TENANTS]
    ask = st.one_of(st.sampled_from([{}, *of_reads]), st.sampled_from([{}, *of_reads, *others]))
    return st.tuples(st.just(site), st.lists(st.lists(ask, max_size=2), min_size=4, max_size=10))


#: The headers that the cache adds, or that depend on the moment.
ADDED = {"Age", "Date", "ETag", "Vary", "Cache-Status"}
PRIVATE = ("Cache-Control", "private")


def owner() -> Any:
    """Return all by which the pages drawn here tell visitors apart, None for a stranger."""
    names = ("Authorization", "X-API-Key")  # and such a client has no other cookie
    return ("user" in session and [session["user"], *map(request.headers.get, names)]) or None


OPTIONS: list[dict[str, Any]] = [
    *({}, {}, {"private_key": owner}),
    *({"vary": ["X-Tenant"]}, {"vary": ["Accept-Language", "Cookie"]}),
]


def site(app: Flask, draw: Any, cached: Callable[[Any], Any]) -> dict[str, Any]:
    """Add pages that read what was drawn to `app`; return a client of each visitor."""
    (hook, view), decorated, answer = draw

    @app.before_request
    def before() -> None:
        g.left = request.left = [READS[name][0]() for name in hook] or None  # type: ignore[attr-defined]

    def page() -> Any:
        return answer(repr([READS[name][0]() for name in view]))

    kept = cached(page)
    if decorated:
        kept = (lambda inner: lambda: inner())(kept)
    for path in ("/page", "/other"):
        app.add_url_rule(path, path, kept, methods=["GET", "POST"])
    clients = {}
    for name in ("stranger", "alice", "bob"):
        # Without cookies of its own, the client sends those of the header.
        clients[name] = app.test_client(use_cookies=name != "stranger")
        if name != "stranger":
            with clients[name].session_transaction() as values:
                values["user"] = name
    return clients


def seen(clients: dict[str, Any], asks: list[Ask]) -> Any:
    """Send a request with all that is asked; return what must be the same in its answer."""
    wanted = {name: it for ask in asks for name, it in ask.items()}
    sent = {name: it for ask in asks for name, it in ask.get("headers", {}).items()}
    address = {"REMOTE_ADDR": wanted.pop("REMOTE_ADDR", "3.3.3.3")}
    client, path = clients[wanted.pop("client", "stranger")], wanted.pop("path", "/page")
    answer = client.open(path, **{**wanted, "headers": sent}, environ_overrides=address)
    # Nor the cookie of the session, which is signed with the time.
    added = ADDED | {"Set-Cookie"}
    headers = sorted((name, it) for name, it in answer.headers if name not in added)
    return answer.status_code, answer.data, [it for it in headers if it != PRIVATE]


@settings(
    max_examples=int(os.environ.get("TEST_EXAMPLES", "400")),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    SITES.flatmap(with_requests),
    st.booleans(),
    st.sampled_from(ANSWERS),
    st.sampled_from(OPTIONS),
)
def test_an_answer_is_the_same_with_and_without_the_cache(
    bare: Flask, drawn: Any, decorated: bool, answer: Any, options: dict[str, Any]
) -> None:
    reads, requests = drawn
    # A page of one's own may show what its owner's hooks counted some visits ago.
    assume(not (options.get("private_key") and "visits" in reads[0]))
    apps = []
    for name in ("with", "without"):
        app = Flask(name)
        app.config.from_mapping(bare.config)
        apps.append(app)
    cache = Cache(apps[0])
    with apps[0].app_context():
        cache.clear()
    draw = reads, decorated, answer
    with_cache = site(apps[0], draw, cache.cached(**options))
    without = site(apps[1], draw, lambda view: view)
    for asks in requests:
        assert seen(with_cache, asks) == seen(without, asks)
