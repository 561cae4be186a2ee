"""Apps with other extensions: nobody sees another's page, and pages for everybody are kept."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask_jwt_extended
import flask_login
import flask_principal
import marshmallow
import pytest
import sentry_sdk
from cachelib import FileSystemCache
from flask import Flask, g, render_template_string, request, session
from flask_babel import Babel, get_locale
from flask_compress import Compress
from flask_cors import CORS, cross_origin
from flask_debugtoolbar import DebugToolbarExtension
from flask_httpauth import HTTPBasicAuth
from flask_restful import Api, Resource, fields, marshal_with
from flask_session import Session
from flask_smorest import Api as SmorestApi
from flask_smorest import Blueprint
from flask_talisman import Talisman
from flask_wtf import CSRFProtect, FlaskForm
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from sentry_sdk.integrations.flask import FlaskIntegration
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


@pytest.fixture(params=["session", "remember-me", "request loader"])
def logins(request: pytest.FixtureRequest, bare: Flask, cache: Cache) -> Any:
    """Return a function that gives a client of a user whom Flask-Login knows in one of its ways."""
    manager = flask_login.LoginManager(bare)

    class User(flask_login.UserMixin):
        def __init__(self, name: str) -> None:
            self.id = name

    manager.user_loader(User)
    if request.param == "request loader":
        manager.request_loader(
            lambda request: User(request.args["key"]) if "key" in request.args else None
        )

    @bare.get("/login/<name>")
    def login(name: str) -> str:
        flask_login.login_user(User(name), remember=request.param == "remember-me")
        return name

    def client(name: str) -> Any:
        client = bare.test_client()
        client.get(f"/login/{name}")
        if request.param == "remember-me":  # the browser was closed since
            client.delete_cookie("session")
        return client

    return client


HELLO = "hello " + "{" * 2 + " current_user.id " + "}" * 2


def test_flask_login(bare: Flask, cache: Cache, logins: Any) -> None:
    bare.add_url_rule("/page", "page", cache.cached()(lambda: render_template_string(HELLO)))
    bare.add_url_rule("/plain", "plain", cache.cached()(lambda: "for everybody"))
    alice, bob = logins("alice"), logins("bob")
    for _ in range(2):
        assert [client.get("/page").text for client in (alice, bob)] == ["hello alice", "hello bob"]
    assert asked(bare, "/page", *strangers(bare), *strangers(bare)) == ["stored", *["hit"] * 3]
    assert [client.get("/page").text for client in (alice, bob)] == ["hello alice", "hello bob"]
    assert asked(bare, "/plain", alice, bob, *strangers(bare)) == ["stored", *["hit"] * 3]


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


def test_flask_wtf(bare: Flask, cache: Cache) -> None:
    CSRFProtect(bare)

    class Form(FlaskForm):
        name = StringField()

    form = "{" * 2 + " form.hidden_tag() " + "}" * 2
    made = cache.cached()(lambda: render_template_string(form, form=Form()))
    bare.add_url_rule("/form", "form", made)
    bare.add_url_rule("/page", "page", cache.cached()(lambda: render_template_string("page")))
    one, other = strangers(bare)
    assert one.get("/form").text != other.get("/form").text
    assert one.get("/form").text == one.get("/form").text
    assert asked(bare, "/page", one, other) == ["stored", "hit"]


def test_flask_principal(bare: Flask, cache: Cache) -> None:
    flask_principal.Principal(bare)

    @bare.get("/login/<name>")
    def login(name: str) -> str:
        identity = flask_principal.Identity(name)
        flask_principal.identity_changed.send(bare, identity=identity)
        return name

    bare.add_url_rule("/page", "page", cache.cached()(lambda: f"hello {g.identity.id}"))
    alice, bob = bare.test_client(), bare.test_client()
    alice.get("/login/alice"), bob.get("/login/bob")
    for _ in range(2):
        assert [client.get("/page").text for client in (alice, bob)] == ["hello alice", "hello bob"]
    assert asked(bare, "/page", *strangers(bare)) == ["stored", "hit"]


@pytest.mark.parametrize("place", ["above", "below"])
def test_flask_jwt_extended(bare: Flask, cache: Cache, place: str) -> None:
    bare.config |= {"JWT_SECRET_KEY": "k" * 40, "JWT_TOKEN_LOCATION": ["headers", "cookies"]}
    flask_jwt_extended.JWTManager(bare)
    decorators = [cache.cached(), flask_jwt_extended.jwt_required(optional=True)]

    def view() -> Any:
        return f"hello {flask_jwt_extended.get_jwt_identity()}"

    for decorator in decorators if place == "above" else reversed(decorators):
        view = decorator(view)
    bare.add_url_rule("/page", "page", view)
    client = bare.test_client(use_cookies=False)
    for name in ("alice", "bob"):
        with bare.app_context():
            token = flask_jwt_extended.create_access_token(name)
        for headers in (
            {"Authorization": f"Bearer {token}"},
            {"Cookie": f"access_token_cookie={token}"},
        ):
            assert client.get("/page", headers=headers).text == f"hello {name}"
    assert asked(bare, "/page", client, client, headers=ANALYTICS) == ["stored", "hit"]
    assert client.get("/page").text == "hello None"


def test_flask_httpauth(bare: Flask, cache: Cache) -> None:
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
        answer = client.get("/page", headers={"Accept-Encoding": encoding})
        encodings.append((answer.headers.get("Content-Encoding"), result(answer)))
    assert encodings == [("gzip", "stored"), (None, "hit"), ("gzip", "hit")]


def test_flask_limiter(bare: Flask, cache: Cache) -> None:
    Limiter(get_remote_address, app=bare, default_limits=["2 per hour"], storage_uri="memory://")
    bare.add_url_rule("/page", "page", cache.cached()(lambda: "page"))
    client = bare.test_client()
    for address, expected in (("1.1.1.1", ["stored", "hit"]), ("2.2.2.2", ["hit", "hit"])):
        base = {"REMOTE_ADDR": address}
        assert asked(bare, "/page", client, client, environ_base=base) == expected
        assert client.get("/page", environ_base=base).status_code == 429


NONCE = "<script nonce=" + "{" * 2 + "csp_nonce()" + "}" * 2 + ">"


def test_flask_talisman(bare: Flask, cache: Cache) -> None:
    policy = {"script-src": "'self'"}
    options: Any = {"content_security_policy_nonce_in": ["script-src"]}
    Talisman(bare, force_https=False, content_security_policy=policy, **options)
    bare.add_url_rule("/page", "page", cache.cached()(lambda: render_template_string("page")))
    bare.add_url_rule("/nonce", "nonce", cache.cached()(lambda: render_template_string(NONCE)))
    assert asked(bare, "/page", *strangers(bare)) == ["stored", "hit"]
    for client in strangers(bare):
        answer = client.get("/nonce")
        nonce = answer.text.partition("nonce=")[2].strip(">")
        assert f"'nonce-{nonce}'" in answer.headers["Content-Security-Policy"]


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


# Observers.


@pytest.fixture
def sentry() -> Iterator[None]:
    """Switch Sentry on, which sends nothing, and off again."""

    class Nowhere(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            """Send nothing."""

    options: Any = {"transport": Nowhere, "traces_sample_rate": 1.0}
    sentry_sdk.init(integrations=[FlaskIntegration()], **options)
    yield
    sentry_sdk.init()


@pytest.fixture
def telemetry(bare: Flask) -> Iterator[None]:
    FlaskInstrumentor().instrument_app(bare)
    yield
    FlaskInstrumentor().uninstrument_app(bare)


@pytest.fixture
def toolbar(bare: Flask) -> None:
    bare.debug = True
    DebugToolbarExtension(bare)


@pytest.mark.parametrize("observer", ["sentry", "telemetry", "toolbar"])
def test_observers(
    bare: Flask, cache: Cache, observer: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(observer)

    def page() -> str:
        bare.logger.error("Somebody looks at the page")
        return render_template_string("<html><body>page</body></html>")

    def own() -> str:
        return f"<html><body>hello {session.get('user')}</body></html>"

    bare.add_url_rule("/page", "page", cache.cached()(page))
    bare.add_url_rule("/own", "own", cache.cached()(own))
    assert asked(bare, "/page", *strangers(bare)) == ["stored", "hit"]
    for name in ("alice", "bob"):
        client = bare.test_client()
        with client.session_transaction() as values:
            values["user"] = name
        assert f"hello {name}" in client.get("/own").text
        assert asked(bare, "/page", client) == ["hit"]
