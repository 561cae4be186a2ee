"""Apps with other extensions: nobody sees another's page, and pages for everybody are kept."""

import functools
import gzip
import logging
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import flask
import flask_jwt_extended
import flask_login
import flask_principal
import marshmallow
import pytest
import sentry_sdk
from cachelib import FileSystemCache
from flask import Flask, g, make_response, render_template_string, request, session
from flask_babel import Babel, get_locale
from flask_compress import Compress
from flask_cors import CORS, cross_origin
from flask_debugtoolbar import DebugToolbarExtension
from flask_httpauth import HTTPBasicAuth, HTTPTokenAuth
from flask_restful import Api, Resource, fields, marshal_with
from flask_session import Session
from flask_smorest import Api as SmorestApi
from flask_smorest import Blueprint
from flask_talisman import Talisman
from flask_wtf import CSRFProtect, FlaskForm
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from sentry_sdk.integrations.flask import FlaskIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport
from wtforms import StringField

from shop.caching.cache import Cache

with warnings.catch_warnings():  # Flask-Limiter knows no Flask 3.2
    warnings.simplefilter("ignore", DeprecationWarning)
    from flask_limiter import Limiter
    from flask_limiter.util import get_remote_address


@pytest.fixture
def cache(bare: Flask) -> Cache:
    """Return a cache with no app context around it: all requests would share its `g`."""
    return Cache(bare)


ANALYTICS = {"Cookie": "_ga=GA1.1"}


def result(answer: Any) -> str:
    """Return the cache's part of an answer: hit, stored, or the reason why not."""
    said: str = answer.headers["Cache-Status"]
    reason = said.partition('detail="')[2].partition(":")[0].strip('"')
    return reason or said.split("; ")[-1].partition("=")[0].replace("ttl", "hit")


def asked(app: Flask, path: str = "/page", *clients: Any, **more: Any) -> list[str]:
    """Return what the cache did for a request by each client, in turn."""
    return [result(client.get(path, **more)) for client in clients]


def strangers(app: Flask) -> list[Any]:
    """Return two clients that nobody knows, the second with a cookie of an analytics service."""
    plain, counted = app.test_client(), app.test_client()
    counted.set_cookie("_ga", "GA1.1")
    return [plain, counted]


# Logins.


class User(flask_login.UserMixin):
    def __init__(self, name: str) -> None:
        self.id = name


@pytest.fixture(params=["session", "remember-me", "token in a cookie", "Authorization"])
def logins(request: pytest.FixtureRequest, bare: Flask, cache: Cache) -> Any:
    """Return a function that gives a client of a user whom Flask-Login knows in one of its ways."""
    manager, way = flask_login.LoginManager(bare), request.param
    manager.user_loader(User)

    @manager.request_loader
    def load(request: flask.Request) -> User | None:
        name = request.cookies.get("token") or request.headers.get("Authorization")
        return User(name) if name else None

    @bare.get("/login/<name>")
    def login(name: str) -> str:
        flask_login.login_user(User(name), remember=way == "remember-me")
        return name

    def client(name: str) -> Any:
        client = bare.test_client()
        if way == "Authorization":
            client.environ_base["HTTP_AUTHORIZATION"] = name
        elif way == "token in a cookie":
            client.set_cookie("token", name)
        else:
            client.get(f"/login/{name}")
        if way == "remember-me":  # the browser was closed since
            client.delete_cookie("session")
        return client

    return client


def plain(client: Any) -> str:
    """Return what a known client gets of a kept page that reads nothing."""
    return "authorization" if "HTTP_AUTHORIZATION" in client.environ_base else "hit"


HELLO = "hello " + "{" * 2 + " current_user.id " + "}" * 2


def test_flask_login(bare: Flask, cache: Cache, logins: Any) -> None:
    bare.add_url_rule("/page", "page", cache.cached()(lambda: render_template_string(HELLO)))
    bare.add_url_rule("/plain", "plain", cache.cached()(lambda: "for everybody"))
    alice, bob = logins("alice"), logins("bob")
    for _ in range(2):
        assert [client.get("/page").text for client in (alice, bob)] == ["hello alice", "hello bob"]
    assert asked(bare, "/page", *strangers(bare), *strangers(bare)) == ["stored", *["hit"] * 3]
    assert [client.get("/page").text for client in (alice, bob)] == ["hello alice", "hello bob"]
    assert asked(bare, "/plain", *strangers(bare), alice, bob) == [
        "stored",
        "hit",
        plain(alice),
        plain(bob),
    ]


def test_flask_login_in_a_hook_and_with_pages_of_ones_own(
    bare: Flask, cache: Cache, logins: Any
) -> None:
    bare.before_request(lambda: setattr(g, "name", getattr(flask_login.current_user, "id", "")))
    bare.add_url_rule("/page", "page", cache.cached()(lambda: f"hello {g.name}"))
    own = cache.cached(private_key=lambda: flask_login.current_user.id)
    own_page = own(lambda: f"own {g.name}")
    bare.add_url_rule("/own", "own", flask_login.login_required(own_page))
    alice, bob = logins("alice"), logins("bob")
    for _ in range(2):
        assert [client.get("/page").text for client in (alice, bob)] == ["hello alice", "hello bob"]
        assert [client.get("/own").text for client in (alice, bob)] == ["own alice", "own bob"]
    assert asked(bare, "/own", alice, bob) == ["hit", "hit"]
    assert asked(bare, "/page", *strangers(bare)) == ["stored", "hit"]
    assert bare.test_client().get("/own").status_code == 401


@pytest.mark.parametrize("argument", ["unless", "forced_update", "timeout"])
def test_flask_login_in_an_argument(bare: Flask, cache: Cache, logins: Any, argument: str) -> None:
    """Flask-Login then keeps the user in `g`, and reads nothing when the view asks for it."""

    def looks() -> int:
        return 61 if flask_login.current_user.is_anonymous else 60

    options: Any = {argument: looks}
    made = cache.cached(**options)(lambda: render_template_string(HELLO))
    bare.add_url_rule("/page", "page", made)
    alice, bob = logins("alice"), logins("bob")
    for _ in range(2):
        assert [client.get("/page").text for client in (alice, bob)] == ["hello alice", "hello bob"]
    assert asked(bare, "/page", *strangers(bare)) == ["stored", "hit"]


def name_of_flask_login(app: Flask) -> Callable[[], Any]:
    manager = flask_login.LoginManager(app)
    manager.request_loader(lambda request: User(request.cookies.get("who", "en")))
    return lambda: flask_login.current_user.id


def locale_of_flask_babel(app: Flask) -> Callable[[], Any]:
    Babel(app, locale_selector=lambda: request.cookies.get("who", "en"))
    return lambda: get_locale()


class Looks(logging.Handler):
    """Looks something up for each record, as a formatter that names the user does."""

    def __init__(self, look: Callable[[], Any]) -> None:
        super().__init__()
        self.look = look

    def emit(self, record: logging.LogRecord) -> None:
        self.look()


@pytest.mark.parametrize("place", ["hook", "view"])
@pytest.mark.parametrize("extension", [name_of_flask_login, locale_of_flask_babel])
def test_a_name_that_was_looked_up_for_a_log_is_not_given_to_others(
    bare: Flask, cache: Cache, monkeypatch: pytest.MonkeyPatch, extension: Any, place: str
) -> None:
    """Reads for a log are free, and yet the extensions keep in `g` what they found."""
    look = extension(bare)
    monkeypatch.setattr(bare.logger, "handlers", [Looks(look)])
    if place == "hook":
        bare.before_request(lambda: bare.logger.error("a visitor"))

    def view() -> str:
        if place == "view":
            bare.logger.error("a visitor")
        return str(look())

    bare.add_url_rule("/page", "page", cache.cached()(view))
    client = bare.test_client(use_cookies=False)
    for name in ("de", "fr"):
        assert client.get("/page", headers={"Cookie": f"who={name}"}).text == name
    assert asked(bare, "/page", *strangers(bare)) == ["stored", "hit"]
    assert client.get("/page").text == "en"


TOKEN = "{" * 2 + " csrf_token() " + "}" * 2


def test_flask_wtf(bare: Flask, cache: Cache) -> None:
    CSRFProtect(bare)

    class Form(FlaskForm):
        name = StringField()

    hidden, field = ("{" * 2 + f" form.{name} " + "}" * 2 for name in ("hidden_tag()", "name()"))
    pages: dict[str, Any] = {
        "/form": lambda: render_template_string(hidden, form=Form()),
        "/token": lambda: render_template_string(TOKEN),
        "/search": lambda: render_template_string(field, form=Form(meta={"csrf": False})),
        "/page": lambda: render_template_string("page"),
    }
    for path, view in pages.items():
        bare.add_url_rule(path, path, cache.cached()(view))
    bare.add_url_rule("/post", "post", lambda: "done", methods=["POST"])
    for path in ("/search", "/page"):
        assert asked(bare, path, *strangers(bare), *strangers(bare)) == ["stored", *["hit"] * 3]
    one, other = strangers(bare)
    assert one.get("/form").text != other.get("/form").text
    for _ in range(2):
        for client in (one, other):
            token = client.get("/token").text
            assert client.get("/form").text.count(token) == 1
            assert client.post("/post", data={"csrf_token": token}).text == "done"
    assert asked(bare, "/page", one, other) == ["hit", "hit"]


def test_flask_wtf_and_pages_of_ones_own(bare: Flask, cache: Cache) -> None:
    """A token is for one browser, and a user may have two: let the owner be the session."""
    CSRFProtect(bare)
    for path, name in (("/user", "user"), ("/browser", "csrf_token")):
        own = cache.cached(private_key=functools.partial(lambda name: session.get(name), name))
        bare.add_url_rule(path, path, own(lambda: render_template_string(TOKEN)))
    bare.add_url_rule("/post", "post", lambda: "done", methods=["POST"])
    one, other = bare.test_client(), bare.test_client()
    for client in (one, other):
        with client.session_transaction() as values:
            values["user"] = "alice"
    answers = {
        path: [
            client.post("/post", data={"csrf_token": client.get(path).text}).status_code
            for client in (one, other) * 3
        ]
        for path in ("/browser", "/user")
    }
    assert answers["/browser"] == [200] * 6
    assert answers["/user"][-2:] == [200, 400]  # as the documentation says
    assert asked(bare, "/browser", one, other) == ["hit", "hit"]


MENU = "{" * 2 + " (g.identity.id, admin.can()) " + "}" * 2


def test_flask_principal(bare: Flask, cache: Cache) -> None:
    flask_principal.Principal(bare)
    role = flask_principal.RoleNeed("admin")
    admin = flask_principal.Permission(role)

    @flask_principal.identity_loaded.connect_via(bare)
    def load(_: Any, identity: Any) -> None:
        identity.provides |= {role} if identity.id == "alice" else set()

    @bare.get("/login/<name>")
    def login(name: str) -> str:
        identity = flask_principal.Identity(name)
        flask_principal.identity_changed.send(bare, identity=identity)
        return name

    page = cache.cached()(lambda: render_template_string(MENU, admin=admin))
    bare.add_url_rule("/page", "page", page)
    guarded = admin.require(403)(cache.cached()(lambda: "secret"))
    bare.add_url_rule("/admin", "admin", guarded)
    alice, bob = bare.test_client(), bare.test_client()
    alice.get("/login/alice"), bob.get("/login/bob")
    for _ in range(2):
        assert alice.get("/page").text == "(&#39;alice&#39;, True)"
        assert bob.get("/page").text == "(&#39;bob&#39;, False)"
        clients = (bob, alice, bare.test_client())
        assert [client.get("/admin").status_code for client in clients] == [403, 200, 403]
    assert asked(bare, "/page", *strangers(bare)) == ["stored", "hit"]


NAMED = "hello " + "{" * 2 + " current_user " + "}" * 2


@pytest.mark.parametrize("place", ["above", "below", "hook"])
@pytest.mark.parametrize(("header", "kind"), [("Authorization", "Bearer "), ("X-Token", "")])
def test_flask_jwt_extended(bare: Flask, cache: Cache, place: str, header: str, kind: str) -> None:
    bare.config |= {"JWT_SECRET_KEY": "k" * 40, "JWT_TOKEN_LOCATION": ["headers", "cookies"]}
    bare.config |= {"JWT_HEADER_NAME": header, "JWT_HEADER_TYPE": kind.strip()}
    manager = flask_jwt_extended.JWTManager(bare, add_context_processor=True)
    manager.user_lookup_loader(lambda _, token: token["sub"])
    known = flask_jwt_extended.jwt_required(optional=True)
    own = cache.cached(private_key=flask_jwt_extended.get_jwt_identity)
    page: Any = lambda: render_template_string(NAMED)  # noqa: E731
    if place == "hook":
        bare.before_request(lambda: known(lambda: None)())
        page = cache.cached()(page)
    else:
        page = known(cache.cached()(page)) if place == "above" else cache.cached()(known(page))
    bare.add_url_rule("/page", "page", page)
    own_page = own(lambda: f"own {flask_jwt_extended.get_jwt_identity()}")
    bare.add_url_rule("/own", "own", known(own_page))
    client = bare.test_client(use_cookies=False)
    with bare.app_context():
        tokens = {name: flask_jwt_extended.create_access_token(name) for name in ("alice", "bob")}
    for name, token in tokens.items():
        cookie = {"Cookie": f"access_token_cookie={token}"}
        for headers in ({header: f"{kind}{token}"}, cookie):
            assert client.get("/page", headers=headers).text == f"hello {name}"
            assert client.get("/own", headers=headers).text == f"own {name}"
        assert asked(bare, "/own", client, client, headers=cookie)[1] == "hit"
    assert asked(bare, "/page", client, client, headers=ANALYTICS) == ["stored", "hit"]
    assert client.get("/page").text == "hello None"
    assert client.get("/own").text == "own None"


@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize("header", ["Authorization", "X-Person"])
def test_flask_httpauth(bare: Flask, cache: Cache, header: str, optional: bool) -> None:
    auth = HTTPTokenAuth(header=header)
    auth.verify_token(lambda token: token or None)
    login_required = auth.login_required(optional=optional)

    def hello() -> str:
        return f"hello {auth.current_user()}"

    bare.add_url_rule("/above", "above", login_required(cache.cached()(hello)))
    bare.add_url_rule("/below", "below", cache.cached()(login_required(hello)))
    client = bare.test_client()
    for path in ("/above", "/below"):
        for name in ("alice", "bob", "alice"):
            said = {header: name if header == "X-Person" else f"Bearer {name}"}
            assert client.get(path, headers=said).text == f"hello {name}"
        if optional:
            assert asked(bare, path, *strangers(bare)) == ["stored", "hit"]
        assert client.get(path).status_code == (200 if optional else 401)
        assert client.get(path, headers=said).text == "hello alice"


def test_flask_httpauth_with_a_password(bare: Flask, cache: Cache) -> None:
    auth = HTTPBasicAuth()
    auth.verify_password(lambda name, password: name)
    page = cache.cached()(lambda: f"hello {auth.current_user()}")
    bare.add_url_rule("/page", "page", auth.login_required(optional=True)(page))
    client = bare.test_client()
    for name in ("alice", "bob"):
        assert client.get("/page", auth=(name, "x")).text == f"hello {name}"
    assert asked(bare, "/page", *strangers(bare)) == ["stored", "hit"]
    assert client.get("/page", auth=("alice", "x")).text == "hello alice"


def test_flask_session(bare: Flask, cache: Cache, tmp_path: Path) -> None:
    store = FileSystemCache(str(tmp_path / "sessions"))
    bare.config |= {"SESSION_TYPE": "cachelib", "SESSION_CACHELIB": store}
    Session(bare)
    bare.add_url_rule("/login/<name>", "login", lambda name: session.update(user=name) or name)
    bare.add_url_rule("/page", "page", cache.cached()(lambda: f"hello {session.get('user')}"))
    bare.add_url_rule("/plain", "plain", cache.cached()(lambda: "for everybody"))
    alice, bob = bare.test_client(), bare.test_client()
    alice.get("/login/alice"), bob.get("/login/bob")
    for _ in range(2):
        assert [client.get("/page").text for client in (alice, bob)] == ["hello alice", "hello bob"]
        assert bare.test_client().get("/page").text == "hello None"
    assert asked(bare, "/plain", alice, bob, *strangers(bare)) == ["stored", *["hit"] * 3]


# Answers by header.


def by_cookie() -> str:
    return request.cookies.get("language") or "en"


def by_header() -> str | None:
    return request.accept_languages.best_match(["de", "en"])


@pytest.mark.parametrize(("selector", "header"), [(by_cookie, "Cookie"), (by_header, None)])
def test_flask_babel(bare: Flask, cache: Cache, selector: Any, header: str | None) -> None:
    Babel(bare, locale_selector=selector)
    bare.add_url_rule("/page", "page", cache.cached()(lambda: str(get_locale())))
    vary = [header or "Accept-Language"]
    bare.add_url_rule("/vary", "vary", cache.cached(vary=vary)(lambda: str(get_locale())))
    client = bare.test_client(use_cookies=False)
    for _ in range(2):
        for language in ("de", "en"):
            headers = {"Cookie": f"language={language}", "Accept-Language": language}
            for path in ("/page", "/vary"):
                assert client.get(path, headers=headers).text == language
    assert asked(bare, "/vary", client, headers=headers) == ["hit"]
    assert asked(bare, "/page", client, client) == ["stored", "hit"]


ORIGINS: Any = ["http://a.example", "http://b.example", "http://c.example", None]


@pytest.mark.parametrize("place", ["app", "above", "below"])
def test_flask_cors(bare: Flask, cache: Cache, place: str) -> None:
    page = cache.cached()(lambda: "page")
    if place == "app":
        CORS(bare, origins=ORIGINS[:2])
    elif place == "above":
        page = cross_origin(origins=ORIGINS[:2])(page)
    else:
        page = cache.cached()(cross_origin(origins=ORIGINS[:2])(lambda: "page"))
    bare.add_url_rule("/page", "page", page)
    client = bare.test_client()
    for _ in range(2):
        for origin in ORIGINS:
            answer = client.get("/page", headers={"Origin": origin} if origin else {})
            allowed = answer.headers.get("Access-Control-Allow-Origin")
            assert allowed == (origin if origin in ORIGINS[:2] else None) or origin is None
    expected = ["vary", "vary"] if place == "below" else ["hit", "hit"]
    assert asked(bare, "/page", client, client) == expected


def test_flask_cors_below_with_the_origin_in_vary(bare: Flask, cache: Cache) -> None:
    allowing = cross_origin(origins=ORIGINS[:2])
    bare.add_url_rule("/page", "page", cache.cached(vary=["Origin"])(allowing(lambda: "page")))
    client = bare.test_client()
    for expected in ("stored", "hit"):
        for origin in ORIGINS[:2]:
            answer = client.get("/page", headers={"Origin": origin})
            assert answer.headers["Access-Control-Allow-Origin"] == origin
            assert result(answer) == expected


def test_flask_compress(bare: Flask, cache: Cache) -> None:
    Compress(bare)
    bare.add_url_rule("/page", "page", cache.cached()(lambda: "page" * 1000))
    client = bare.test_client()
    encodings = []
    for encoding in ("gzip", "identity", "gzip"):
        accept = {"Accept-Encoding": encoding}
        answer = client.get("/page", headers=accept)
        encodings.append((answer.headers.get("Content-Encoding"), result(answer)))
        body = gzip.decompress(answer.data) if encoding == "gzip" else answer.data
        assert (body, answer.headers["Vary"]) == (b"page" * 1000, "Accept-Encoding")
        again = client.get("/page", headers={**accept, "If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.data) == (304, b"")
    assert encodings == [("gzip", "stored"), (None, "hit"), ("gzip", "hit")]


def test_flask_compress_as_a_decorator(bare: Flask, cache: Cache) -> None:
    bare.config["COMPRESS_REGISTER"] = False
    compressed = Compress(bare).compressed()
    bare.add_url_rule("/above", "above", compressed(cache.cached()(lambda: "page" * 1000)))
    bare.add_url_rule("/below", "below", cache.cached()(compressed(lambda: "page" * 1000)))
    client = bare.test_client()
    for path in ("/above", "/below"):
        for encoding, sent in (("gzip", "gzip"), ("identity", None)) * 2:
            answer = client.get(path, headers={"Accept-Encoding": encoding})
            assert answer.headers.get("Content-Encoding") == sent
    assert asked(bare, "/above", client) == ["hit"]


@pytest.mark.parametrize("place", ["app", "above"])
def test_flask_limiter(bare: Flask, cache: Cache, place: str) -> None:
    """Each address has a limit of its own, and hits count."""
    limits = ["2 per hour"] if place == "app" else []
    options: Any = {"storage_uri": "memory://", "headers_enabled": True}
    limiter = Limiter(get_remote_address, app=bare, default_limits=limits, **options)
    page = cache.cached()(lambda: "page")
    page = limiter.limit("2 per hour")(page) if place == "above" else page
    bare.add_url_rule("/page", "page", page)
    client, got = bare.test_client(), []
    for address in ("1.1.1.1", "2.2.2.2"):
        base = {"REMOTE_ADDR": address}
        for left in ("1", "0"):
            answer = client.get("/page", environ_base=base)
            assert answer.headers.getlist("X-RateLimit-Remaining") == [left]
            got.append(result(answer))
        assert client.get("/page", environ_base=base).status_code == 429
    assert got == ["stored", "hit", "hit", "hit"]


NONCE = "<script nonce=" + "{" * 2 + "csp_nonce()" + "}" * 2 + ">"


@pytest.mark.parametrize("force_https", [True, False])
def test_flask_talisman(bare: Flask, cache: Cache, force_https: bool) -> None:
    policy = {"script-src": "'self'"}
    options: Any = {"content_security_policy_nonce_in": ["script-src"]}
    Talisman(bare, force_https=force_https, content_security_policy=policy, **options)
    bare.add_url_rule("/page", "page", cache.cached()(lambda: render_template_string("page")))
    bare.add_url_rule("/nonce", "nonce", cache.cached()(lambda: render_template_string(NONCE)))
    secure: Any = {"base_url": "https://localhost"}
    assert asked(bare, "/page", *strangers(bare), **secure) == ["stored", "hit"]
    for client in strangers(bare):
        answer = client.get("/nonce", **secure)
        nonce = answer.text.partition("nonce=")[2].strip(">")
        assert f"'nonce-{nonce}'" in answer.headers["Content-Security-Policy"]
    assert client.get("/page").status_code == (302 if force_https else 200)


def test_a_nonce_of_a_plain_hook_is_old_from_the_first_hit_on(bare: Flask, cache: Cache) -> None:
    """As the documentation says under "What a cached page must not contain"."""
    nonces = count()
    bare.before_request(lambda: setattr(g, "nonce", next(nonces)))
    bare.add_url_rule("/page", "page", cache.cached()(lambda: str(g.nonce)))
    assert [client.get("/page").text for client in strangers(bare)] == ["0", "0"]


# Decorators that make an answer of what the view returned.


def test_flask_smorest(bare: Flask, cache: Cache) -> None:
    bare.config |= {"API_TITLE": "x", "API_VERSION": "1", "OPENAPI_VERSION": "3.0.2"}
    blueprint = Blueprint("users", __name__)

    class User(marshmallow.Schema):
        name = marshmallow.fields.String()

    @blueprint.route("/page")
    @blueprint.response(200, User)
    @cache.cached()
    def page() -> dict[str, str]:
        return {"name": request.args.get("name", "x"), "password_hash": "secret"}

    SmorestApi(bare).register_blueprint(blueprint)
    client = bare.test_client()
    for expected in ("stored", "hit"):
        for name in ("alice", "bob"):
            answer = client.get(f"/page?name={name}")
            assert (answer.json, result(answer)) == ({"name": name}, expected)


@pytest.mark.parametrize(
    ("location", "header", "outcome"),
    [
        ("query", "", "hit"),
        ("headers", "X-Name", "reads x-name"),
        ("cookies", "Cookie", "reads cookie"),
    ],
)
def test_arguments_of_flask_smorest(
    bare: Flask, cache: Cache, location: str, header: str, outcome: str
) -> None:
    bare.config |= {"API_TITLE": "x", "API_VERSION": "1", "OPENAPI_VERSION": "3.0.2"}
    blueprint = Blueprint("users", __name__)

    class Asked(marshmallow.Schema):
        class Meta:
            unknown = marshmallow.EXCLUDE

        name = marshmallow.fields.String(
            data_key="X-Name" if header == "X-Name" else "name", load_default="nobody"
        )

    @blueprint.route("/page")
    @blueprint.arguments(Asked, location=location)
    @cache.cached()
    def page(asked: dict[str, str]) -> dict[str, str]:
        return asked

    SmorestApi(bare).register_blueprint(blueprint)
    client = bare.test_client(use_cookies=False)
    for last in ("", outcome):
        for name in ("alice", "bob"):
            value = f"name={name}" if header == "Cookie" else name
            headers = {header: value} if header else {}
            query = "" if header else f"name={name}"
            answer = client.get("/page", headers=headers, query_string=query)
            assert answer.json == {"name": name}
            assert not last or result(answer) == last
    assert asked(bare, "/page", *strangers(bare)) == ["stored", "hit"]
    assert client.get("/page").json == {"name": "nobody"}


@pytest.mark.parametrize("place", ["method", "method_decorators"])
def test_flask_restful(bare: Flask, cache: Cache, place: str) -> None:
    class User(Resource):
        @marshal_with({"name": fields.String})
        @cache.cached()
        def get(self, name: str) -> dict[str, str]:
            return {"name": name, "password_hash": "secret"}

    class Decorated(Resource):
        method_decorators = (cache.cached(),)

        def get(self, name: str) -> dict[str, str]:
            return {"name": name}

    api = Api(bare)
    api.add_resource(User if place == "method" else Decorated, "/<name>")
    client = bare.test_client()
    for expected in ("stored", "hit"):
        for name in ("alice", "bob"):
            answer = client.get(f"/{name}")
            assert (answer.json, result(answer)) == ({"name": name}, expected)


@pytest.mark.parametrize("place", ["method", "api"])
def test_flask_restful_answers_in_the_format_that_is_asked_for(
    bare: Flask, cache: Cache, place: str
) -> None:
    api = Api(bare, decorators=[cache.cached()] if place == "api" else [])

    @api.representation("text/plain")
    def text(data: Any, status: int, headers: Any = None) -> Any:
        return make_response(
            data["name"], status, {"Content-Type": "text/plain", **(headers or {})}
        )

    class User(Resource):
        def get(self) -> dict[str, str]:
            return {"name": "alice"}

        if place == "method":
            get = cache.cached()(get)

    api.add_resource(User, "/page")
    client = bare.test_client()
    for kind in ("application/json", "text/plain") * 2:
        assert client.get("/page", headers={"Accept": kind}).mimetype == kind
    assert asked(bare, "/page", *strangers(bare))[1] == "hit"


# Observers.


Seen = list[Any]


@pytest.fixture
def sentry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """Switch Sentry on, with personal data, and off again; give what it would send.

    It installs itself once in a process, so that only one test can have it.
    """
    seen: Seen = []

    class Nowhere(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            """Send nothing."""
            seen.append(envelope)

    monkeypatch.setattr(Flask, "__call__", Flask.__call__)  # which gives it back at the end
    monkeypatch.setattr(logging.Logger, "callHandlers", logging.Logger.callHandlers)
    signals = (flask.request_started, flask.got_request_exception, flask.before_render_template)
    before = {signal: set(signal.receivers) for signal in signals}
    options: Any = {"default_integrations": False, "auto_enabling_integrations": False}
    options |= {
        "transport": Nowhere,
        "traces_sample_rate": 1.0,
        "data_collection": {"user_info": True},
    }
    found = [FlaskIntegration(), LoggingIntegration()]
    sentry_sdk.init("http://key@127.0.0.1/1", integrations=found, **options)
    yield seen
    sentry_sdk.get_client().close(timeout=0)
    sentry_sdk.get_global_scope().set_client(None)
    for signal, known in before.items():
        for one in signal.receivers.keys() - known:
            receiver: Any = signal.receivers[one]()
            signal.disconnect(receiver)


@pytest.fixture
def telemetry(bare: Flask) -> Iterator[Seen]:
    """Instrument the app by OpenTelemetry; give the names of what its spans tell."""
    seen: Seen = []

    class Span(trace.NonRecordingSpan):
        kind = trace.SpanKind.SERVER

        def is_recording(self) -> bool:
            return True

        def set_attribute(self, key: str, value: Any) -> None:
            seen.append(key)

    class Tracer(trace.NoOpTracer):
        def start_span(self, *args: Any, attributes: Any = None, **more: Any) -> Any:
            seen.extend(attributes or ())
            return Span(trace.INVALID_SPAN_CONTEXT)

    class Tracers(trace.NoOpTracerProvider):
        def get_tracer(self, *args: Any, **more: Any) -> Any:
            return Tracer()

    FlaskInstrumentor().instrument_app(bare, tracer_provider=Tracers())
    yield seen
    FlaskInstrumentor().uninstrument_app(bare)


@pytest.fixture
def toolbar(bare: Flask) -> Seen:
    """Add the toolbar; give what it adds to each page."""
    seen: Seen = []
    bare.debug = True

    @bare.after_request  # after the toolbar: such functions run in reverse
    def look(response: flask.Response) -> flask.Response:
        seen.extend(["toolbar"] * (response.get_data(as_text=True).count('id="flDebug"') == 1))
        return response

    DebugToolbarExtension(bare)
    return seen


@pytest.mark.parametrize("observer", ["sentry", "telemetry", "toolbar"])
def test_observers(
    bare: Flask, cache: Cache, observer: str, request: pytest.FixtureRequest
) -> None:
    seen = request.getfixturevalue(observer)
    flask_login.LoginManager(bare).user_loader(User)

    def page() -> str:
        bare.logger.error("Somebody looks at the page")
        return render_template_string(f"<html><body>{HELLO}</body></html>")

    def login(name: str) -> str:
        flask_login.login_user(User(name))
        return "<html><body></body></html>"

    bare.add_url_rule("/page", "page", cache.cached()(page))
    bare.add_url_rule("/plain", "plain", cache.cached()(lambda: "<html><body></body></html>"))
    bare.add_url_rule("/login/<name>", "login", login)
    assert asked(bare, "/page", *strangers(bare)) == ["stored", "hit"]
    assert asked(bare, "/plain", *strangers(bare)) == ["stored", "hit"]
    assert len(seen) >= 4  # of each answer, kept or not
    for name in ("alice", "bob"):
        client = bare.test_client()
        client.get(f"/login/{name}")
        assert f"hello {name}" in client.get("/page").text
        # Sentry asks Flask-Login before each view who the visitor is.
        expected = "reads session" if observer == "sentry" else "hit"
        assert asked(bare, "/plain", client) == [expected]
    assert asked(bare, "/page", *strangers(bare)) == ["hit", "hit"]
