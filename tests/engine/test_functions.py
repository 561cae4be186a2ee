"""A function's result depends on its arguments, not on the request or a user in `g`."""

import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from flask import (
    Flask,
    current_app,
    g,
    render_template_string,
    request,
    session,
    url_for,
)
from flask_login import LoginManager, UserMixin, current_user

from shop.caching import events
from shop.caching.cache import Cache
from tests.engine import inside
from tests.engine.fixtures import Clock

Read = Callable[[], Any]
WAYS = ("cached", "memoize", "get_or_set")
#: In the last two a hook or the view itself reads before.
VIEWS = ("plain", "hooked", "viewed")


class User(UserMixin):
    """A user of Flask-Login."""

    def __init__(self, name: str) -> None:
        self.id = name


class Site:
    """An app in which the views call one function under the cache; visitors differ in all."""

    def __init__(self, app: Flask, cache: Cache) -> None:
        self.app, self.cache = app, cache
        app.before_request(hook)
        LoginManager(app, add_context_processor=False).user_loader(User)
        for name, function in {"page": cache.cached()(view), **dict.fromkeys(VIEWS, view)}.items():
            app.add_url_rule(f"/{name}/<who>", name, function, methods=["GET", "POST"])

    def let(self, read: Read, way: str = "cached", **options: Any) -> None:
        """Let all views call `read`, cached in a way."""
        call: Read = partial(self.cache.get_or_set, "key", read)
        if way != "get_or_set":
            call = getattr(self.cache, way)(**options)(read)
        self.app.extensions |= {"read": read, "call": call}

    def ask(self, who: str, view: str = "plain", **more: Any) -> Any:
        """Return the answer to a visitor."""
        signer: Any = self.app.session_interface.get_signing_serializer(self.app)
        theirs = signer.dumps({"user": who, "_user_id": who})
        headers = {"X-Tenant": who, "User-Agent": who, "Accept-Language": f"{who}{who}"}
        headers["Cookie"] = f"own={who}; session={theirs}"
        url, base = f"/{view}/{who}?q={who}", f"http://{who}.example/{who}"
        address = {"REMOTE_ADDR": f"{ord(who)}.1.1.1"}
        client = self.app.test_client(use_cookies=False)
        return client.open(url, base_url=base, headers=headers, environ_base=address, **more)


def hook() -> None:
    g.user = request.args["q"]
    request.tenant = g.user  # type: ignore[attr-defined]
    if request.endpoint == "hooked":
        current_app.extensions["read"]()


def view(**_: str) -> Any:
    """Read, call the function, and read again."""
    read, call = (current_app.extensions[name] for name in ("read", "call"))
    before = read() if request.endpoint == "viewed" else None
    result = {"value": call(), "own": read()}
    return result | {"before": before or result["own"]}


@pytest.fixture
def site(bare: Flask, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return a site without an app context around it, whose `g` all requests would share."""
    inside.forget_warnings(monkeypatch)
    cache = Cache(bare)
    cache.clock = clock
    return Site(bare, cache)


@pytest.fixture
def loads() -> Iterator[list[str]]:
    """Return why results were stored or not, as the cache tells its subscribers."""
    results: list[str] = []
    subscriber = events.load.subscribe(lambda name, result, _: results.append(result))
    yield results
    events.load.unsubscribe(subscriber)


JSON: list[Read] = [
    lambda: request.get_json()["f"],
    lambda: request.json["f"],
    lambda: request.data.decode(),
    lambda: request.get_data(as_text=True),
]
#: What the log says -> the reason in the events, and reads that it stands for.
READS: dict[str, tuple[str, list[Read]]] = {
    "session": (
        "session",
        [
            lambda: session["user"],
            lambda: session.get("user"),
            lambda: {**session},
            lambda: render_template_string("{{ session.user }}"),
        ],
    ),
    "cookie": (
        "cookie",
        [
            lambda: request.cookies["own"],
            lambda: request.cookies.get("own"),
            lambda: request.cookies.to_dict(),
            lambda: request.headers["Cookie"],
        ],
    ),
    "x-tenant": (
        "header",
        [
            lambda: request.headers["X-Tenant"],
            lambda: request.headers.get("x-tenant"),
            lambda: request.headers.getlist("X-Tenant"),
            lambda: render_template_string("{{ request.headers['X-Tenant'] }}"),
        ],
    ),
    "accept-language": ("header", [lambda: request.accept_languages.best]),
    "user-agent": ("header", [lambda: request.user_agent.string]),
    "headers": ("headers", [lambda: dict(request.headers), lambda: str(request.headers)]),
    "address": ("address", [lambda: request.remote_addr]),
    "args": (
        "request",
        [lambda: request.args["q"], lambda: request.args.to_dict(), lambda: request.values["q"]],
    ),
    "query_string": (
        "request",
        [
            lambda: request.query_string.decode(),
            lambda: request.full_path,
        ],
    ),
    "path": ("request", [lambda: request.path, lambda: request.url, lambda: request.base_url]),
    "view_args": ("request", [lambda: request.view_args]),
    "host": (
        "request",
        [
            lambda: request.host,
            lambda: request.host_url,
            lambda: request.root_url,
            lambda: url_for("plain", who="x", _external=True),
            lambda: url_for("plain", who="x"),  # which begins with the script root
        ],
    ),
    "root_path": ("request", [lambda: request.root_path, lambda: request.script_root]),
    "method": ("request", [lambda: request.method + request.path, lambda: repr(request)]),
    "body": (
        "request",
        [
            lambda: request.form["f"],
            lambda: request.values["f"],
            lambda: request.form.to_dict(),
            lambda: request.files["file"].filename,
            *JSON,
        ],
    ),
    "environ": (
        "request",
        [
            lambda: request.environ["REMOTE_ADDR"],
            lambda: {name: it for name, it in request.environ.items() if name[:5] == "HTTP_"},
        ],
    ),
    "tenant": ("request", [lambda: request.tenant]),  # type: ignore[attr-defined]
    "g.user": (
        "user",
        [
            lambda: g.user,
            lambda: g.get("user"),
            lambda: g.setdefault("user"),
            lambda: getattr(g, "user", None),
            lambda: g._get_current_object().user,  # type: ignore[attr-defined]
            lambda: render_template_string("{{ g.user }}"),
        ],
    ),
    "g.__dict__": ("user", [lambda: vars(g)["user"], lambda: g.__dict__["user"]]),
    "g._login_user": (
        "user",
        [
            lambda: current_user.id,
            lambda: current_user.get_id(),
            lambda: render_template_string("{{ user.id }}", user=current_user),
        ],
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "reason", "read"),
    [(name, reason, read) for name, (reason, reads) in READS.items() for read in reads],
)
def test_a_result_that_read_the_request_is_right_and_not_kept(
    site: Site, loads: list[str], caplog: Any, way: str, name: str, reason: str, read: Read
) -> None:
    site.let(read, way)
    for view in (*VIEWS, "page"):
        answers = []
        for who in "ab":
            more: dict[str, Any] = {"method": "GET" if who == "a" else "POST"}
            if name == "body":
                file = io.BytesIO(b""), f"{who}.txt"
                given = {"json": {"f": who}} if read in JSON else {"data": {"f": who, "file": file}}
                more = {"method": "POST", **given}
            answers.append(site.ask(who, view, **(more if name in ("body", "method") else {})))
            assert (
                answers[-1].json["value"] == answers[-1].json["own"] == answers[-1].json["before"]
            )
            said = ", ".join(answers[-1].headers.getlist("Cache-Status"))
            assert f"{__name__}.<lambda> reads " in said
            assert ": pass it as an argument" in said
        assert answers[0].json["own"] != answers[1].json["own"]
    assert f"reads {reason}" in loads
    (line,) = [text for text in caplog.messages if "<lambda>" in text]
    assert f"The result of {__name__}.<lambda> is not kept: it reads " in line
    assert name in line.partition(" reads ")[2].partition(": pass it")[0].split(", ")
