"""With and without `cached`, the same requests in the same order get the same answers."""

import os
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, g, get_flashed_messages, request, session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shop.caching.cache import Cache

#: What a view, or a hook before it, may read; each gives text.
READS: dict[str, Callable[[], Any]] = {
    "header": lambda: request.headers.get("X-Tenant"),
    "language": lambda: request.accept_languages.best,
    "agent": lambda: request.user_agent.string,
    "all headers": lambda: sorted(dict(request.headers)),
    "key": lambda: request.headers.get("X-API-Key"),
    "authorization": lambda: request.authorization,
    "cookie": lambda: request.cookies.get("own"),
    # The session's is signed with the time.
    "cookies": lambda: sorted(it for it in request.cookies.items() if it[0] != "session"),
    "session": lambda: session.get("user"),
    "flashes": lambda: get_flashed_messages(),
    "visits": lambda: session.setdefault("visits", 1),
    "address": lambda: request.remote_addr,
    "route": lambda: request.access_route,
    "args": lambda: sorted(request.args.items(multi=True)),
    "json": lambda: request.get_json(silent=True),
    "body": lambda: request.get_data(as_text=True),
    "path": lambda: request.path,
    "host": lambda: request.host,
    "g": lambda: g.get("left"),
    "left": lambda: getattr(request, "left", None),
    "nothing": lambda: "page",
}
ANSWERS: list[Callable[[str], Any]] = [
    lambda text: text,
    lambda text: {"text": text},
    lambda text: (text, 200, {"Cache-Control": "max-age=60", "X-Own": "1"}),
    lambda text: (text, 404),
    lambda text: Response(text, headers={"Vary": "X-Tenant"}),
]

HEADERS = [
    *(("X-Tenant", "a"), ("X-Tenant", "b"), ("Accept-Language", "de"), ("Accept-Language", "en")),
    *(("User-Agent", "a"), ("Cookie", "own=1"), ("Cookie", "own=2; theirs=1")),
    *(("Cookie", "theirs=1"), ("X-API-Key", "a"), ("Authorization", "Bearer a")),
]


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    """Return the usual value more often than others: pages must meet to be mixed up."""
    return st.sampled_from([usual] * (4 * len(others)) + list(others))


REQUEST = st.fixed_dictionaries(
    {
        "client": mostly("stranger", "alice", "bob"),
        "method": mostly("GET", "HEAD", "POST"),
        "path": mostly("/page", "/page?a=1", "/page?a=2&a=1", "/other"),
        "headers": st.lists(st.sampled_from(HEADERS), max_size=2).map(dict),
        "data": mostly(None, '{"q": "cats"}', '{"q": "dogs"}'),
        "REMOTE_ADDR": mostly("1.1.1.1", "2.2.2.2"),
    }
)
NAMES = st.sampled_from(sorted(READS))
#: What a hook reads, and what the view does: of its own, or what the hook left.
SITES: st.SearchStrategy[Any] = st.one_of(
    st.tuples(st.just([]), st.lists(NAMES, min_size=1, max_size=2)),
    st.tuples(st.lists(NAMES, min_size=1, max_size=2), st.sampled_from([["g"], ["left"], []])),
)
#: The headers that the cache adds, or that depend on the moment.
ADDED = {"Age", "Date", "ETag", "Vary", "Cache-Status"}
PRIVATE = ("Cache-Control", "private")


def owner() -> Any:
    """Return all by which the pages drawn here tell visitors apart, None for a stranger."""
    names = ("Authorization", "X-API-Key", "Cookie")
    return ("user" in session and [session["user"], *map(request.headers.get, names)]) or None


def site(app: Flask, draw: Any, cached: Callable[[Any], Any]) -> dict[str, Any]:
    """Add pages that read what was drawn to `app`; return a client of each visitor."""
    (hook, view), decorated, answer = draw

    @app.before_request
    def before() -> None:
        g.left = request.left = [READS[name]() for name in hook] or None  # type: ignore[attr-defined]

    def page() -> Any:
        return answer(repr([READS[name]() for name in view]))

    kept = cached(page)
    if decorated:
        kept = (lambda inner: lambda: inner())(kept)
    for path in ("/page", "/other"):
        app.add_url_rule(path, path, kept, methods=["GET", "POST"])
    clients = {}
    for name in ("stranger", "alice", "bob"):
        clients[name] = app.test_client()
        if name != "stranger":
            with clients[name].session_transaction() as values:
                values["user"] = name
    return clients


def seen(client: Any, wanted: dict[str, Any]) -> Any:
    """Return the part of an answer that must be the same."""
    kind = {"content_type": "application/json"} if wanted["data"] else {}
    answer = client.open(
        wanted["path"],
        method=wanted["method"],
        headers=wanted["headers"],
        data=wanted["data"],
        environ_overrides={"REMOTE_ADDR": wanted["REMOTE_ADDR"]},
        **kind,
    )
    # Nor the cookie of the session, which is signed with the time.
    added = ADDED | {"Set-Cookie"}
    headers = sorted((name, it) for name, it in answer.headers if name not in added)
    return answer.status_code, answer.data, [it for it in headers if it != PRIVATE]


@settings(
    max_examples=int(os.environ.get("TEST_EXAMPLES", "150")),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    st.tuples(SITES, st.booleans(), st.sampled_from(ANSWERS)),
    st.fixed_dictionaries(
        {},
        optional={
            "vary": st.sampled_from([["X-Tenant"], ["Accept-Language", "Cookie"]]),
            "private_key": st.just(owner),
        },
    ),
    st.lists(REQUEST, min_size=4, max_size=12),
)
def test_an_answer_is_the_same_with_and_without_the_cache(
    bare: Flask, draw: Any, options: dict[str, Any], requests: list[dict[str, Any]]
) -> None:
    apps = []
    for name in ("with", "without"):
        app = Flask(name)
        app.config.from_mapping(bare.config)
        apps.append(app)
    cache = Cache(apps[0])
    with apps[0].app_context():
        cache.clear()
    with_cache = site(apps[0], draw, cache.cached(**options))
    without = site(apps[1], draw, lambda view: view)
    for wanted in requests:
        visitor = wanted["client"]
        assert seen(with_cache[visitor], wanted) == seen(without[visitor], wanted)
