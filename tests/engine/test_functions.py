"""A function's result depends on its arguments, not on the request or a user in `g`."""

import asyncio
import io
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from flask import (
    Flask,
    current_app,
    g,
    get_flashed_messages,
    has_request_context,
    render_template_string,
    request,
    session,
    url_for,
)
from flask_babel import Babel, format_decimal, get_locale
from flask_login import LoginManager, UserMixin, current_user
from sqlalchemy import select

from shop.caching import events
from shop.caching.cache import Cache
from shop.models import Post, db, fill
from shop.models import bp as database
from tests.engine import inside
from tests.engine.fixtures import Clock

numbers = itertools.count()
Read = Callable[[], Any]
WAYS = ("cached", "memoize", "get_or_set")
#: A hook reads the value before the view in the second, and the view itself in the third.
VIEWS = ("plain", "hooked", "viewed")


class User(UserMixin):
    """A user of Flask-Login."""

    def __init__(self, name: str) -> None:
        self.id = name


class Site:
    """An app whose views call one cached function. Visitors differ in all that they send."""

    def __init__(self, app: Flask, cache: Cache) -> None:
        self.app, self.cache = app, cache
        app.before_request(hook)
        LoginManager(app, add_context_processor=False).user_loader(User)
        views: dict[str, Any] = {"page": cache.cached()(view), **dict.fromkeys(VIEWS, view)}
        for name, function in views.items():
            app.add_url_rule(f"/{name}/<who>", name, function, methods=["GET", "POST"])

    def let(self, read: Read, way: str = "cached", **options: Any) -> None:
        """Let all views call `read`, which is cached by `way`, one of WAYS."""
        call: Read = partial(self.cache.get_or_set, "key", read)
        if way != "get_or_set":
            call = getattr(self.cache, way)(**options)(read)
        self.app.extensions |= {"read": read, "call": call}

    def ask(self, who: str, view: str = "plain", root: str | None = None, **more: Any) -> Any:
        """Return the answer of a view to the visitor called `who`."""
        interface: Any = self.app.session_interface
        theirs = interface.get_signing_serializer(self.app).dumps({"user": who, "_user_id": who})
        headers = {"X-Tenant": who, "User-Agent": who, "Accept-Language": f"{who}{who}"}
        headers |= {"Authorization": f"Bearer {who}", "X-API-Key": who}
        headers["Cookie"] = f"own={who}; session={theirs}"
        url, base = (
            f"/{view}/{who}?q={who}",
            f"http://{who}.example/{who if root is None else root}",
        )
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


def numbered(read: Read) -> Read:
    """Return a function that adds a new number to each result of `read`."""
    return lambda: [next(numbers), read()]


@pytest.fixture
def site(bare: Flask, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return a site. No app context is open around it, since all requests would share its `g`."""
    inside.forget_warnings(monkeypatch)
    cache = Cache(bare)
    cache.clock = clock
    return Site(bare, cache)


@pytest.fixture
def loads() -> Iterator[list[str]]:
    """Return the results of the cache's load events, in order."""
    results: list[str] = []
    subscriber = events.load.subscribe(lambda name, result, _: results.append(result))
    yield results
    events.load.unsubscribe(subscriber)


#: In each line: the name in the log, the reason in the events, and expressions that cause both.
TABLE = """
session|session|session['user']; session.get('user'); {**session}; shown('{{ session.user }}')
cookie|cookie|request.cookies['own']; request.cookies.get('own'); request.cookies.to_dict()
cookie|cookie|request.headers['Cookie']; shown('{{ request.cookies.own }}')
x-tenant|header|request.headers['X-Tenant']; request.headers.get('x-tenant')
x-tenant|header|request.headers.getlist('X-Tenant'); shown("{{ request.headers['X-Tenant'] }}")
accept-language|header|request.accept_languages.best
user-agent|header|request.user_agent.string
headers|headers|dict(request.headers); str(request.headers)
address|address|request.remote_addr
args|request|request.args['q']; request.args.to_dict(); request.values['q']
query_string|request|request.query_string.decode(); request.full_path
path|request|request.path; request.url; request.base_url
view_args|request|request.view_args
host|request|request.host; request.host_url; request.root_url; link(_external=True); link()
root_path|request|request.root_path; request.script_root
method|request|request.method + request.path; repr(request)
body|request|request.form['f']; request.values['f']; request.form.to_dict()
body|request|request.files['file'].filename; request.stream and request.form['f']
body|request|request.get_json()['f']; request.json['f']; request.is_json and request.data.decode()
body|request|request.is_json and request.get_data(as_text=True)
environ|request|request.environ['REMOTE_ADDR']; request.environ.get('HTTP_X_TENANT')
tenant|request|request.tenant; getattr(request, 'tenant', '')
g.user|user|g.user; g.get('user'); g.setdefault('user'); getattr(g, 'user', None)
g.user|user|g._get_current_object().user; shown('{{ g.user }}')
g.__dict__|user|vars(g)['user']; g.__dict__['user']
g._login_user|user|current_user.id; current_user.get_id(); shown('{{ u.id }}', u=current_user)
"""


def shown(template: str, **values: Any) -> str:
    return render_template_string(template, **values)


def link(**more: Any) -> str:
    """Return a link, which begins with the script root."""
    return url_for("plain", who="x", **more)


READS = [
    (name, reason, text.strip())
    for name, reason, texts in (line.split("|") for line in TABLE.strip().splitlines())
    for text in texts.split(";")
]


def reads_of(name: str) -> list[Read]:
    return [reading(text) for its, _, text in READS if its == name]


def reading(text: str) -> Read:
    """Return a function that evaluates `text`."""
    return eval(f"lambda: {text}", globals())  # type: ignore[no-any-return]


@pytest.mark.parametrize(("name", "reason", "text"), READS)
def test_a_result_that_read_the_request_is_right_and_not_kept(
    site: Site, loads: list[str], caplog: Any, name: str, reason: str, text: str
) -> None:
    read = reading(text)
    for view, way in zip((*VIEWS, "page"), itertools.cycle(WAYS)):
        site.let(read, way)
        own = set()
        for who in "ab":
            file = io.BytesIO(b""), f"{who}.txt"
            body = {"json": {"f": who}} if "json" in text else {"data": {"f": who, "file": file}}
            more: dict[str, Any] = {"method": "POST", **body} if name == "body" else {}
            more |= {"method": "POST"} if (name, who) == ("method", "b") else {}
            answer = site.ask(who, view, **more)
            assert answer.json["value"] == answer.json["own"] == answer.json["before"]
            own.add(str(answer.json["own"]))
            said = ", ".join(answer.headers.getlist("Cache-Status"))
            assert f"{__name__}.<lambda> reads " in said
            assert ": pass it as an argument" in said
        assert len(own) == 2
    assert f"reads {reason}" in loads
    (line,) = [text for text in caplog.messages if "<lambda>" in text]
    assert f"The result of {__name__}.<lambda> is not kept: it reads " in line
    assert name in line.partition(" reads ")[2].partition(": pass it")[0].split(", ")


@pytest.mark.parametrize(
    "take",
    [
        lambda: "user" in g,
        lambda: g.pop("user"),
        lambda: [*g],
        lambda: delattr(g, "user"),
        lambda: "user" in session,
        lambda: get_flashed_messages(),
        lambda: "own" in request.cookies,
        lambda: current_user.is_authenticated,
        lambda: request.is_secure,
        lambda: request.stream.read().decode(),
    ],
)
def test_indirect_reads_keep_a_result_out_of_the_cache(site: Site, take: Read) -> None:
    site.let(numbered(take))
    site.app.extensions["read"] = str
    answers = [site.ask("a", "page", method="POST", data=b"body").json["value"] for _ in range(2)]
    assert answers[0] != answers[1]
    assert answers[0][1:] == answers[1][1:]


def test_each_function_has_one_line_in_the_log(site: Site, caplog: Any) -> None:
    def path() -> str:
        return request.path

    def user() -> Any:
        return g.user

    for read in (path, user, path):
        site.let(read)
        for who in "ab":
            site.ask(who)
    assert [text.partition("<locals>.")[2].partition(":")[0] for text in caplog.messages] == [
        "path is not kept",
        "user is not kept",
    ]


def test_a_result_that_is_computed_outside_of_a_request_is_kept_for_requests(site: Site) -> None:
    site.let(lambda: [next(numbers), request.path if has_request_context() else "no request"])
    with site.app.app_context():
        first = site.app.extensions["call"]()
    assert [site.ask(who).json["value"] for who in "ab"] == [first] * 2


@pytest.mark.parametrize("names", [["tenant"], ("tenant", "shop"), "tenant"])
def test_a_setting_names_the_users_in_g(bare: Flask, names: Any) -> None:
    bare.config["CACHE_USER_NAMES"] = names
    site = Site(bare, Cache(bare))
    bare.before_request(lambda: setattr(g, "tenant", g.user))
    for read, kept in ((lambda: g.tenant, False), (lambda: g.user, True)):
        site.let(numbered(read))
        first, second, other = (site.ask(who).json["value"] for who in "aab")
        assert (first == second == other) == kept
        assert kept or (first[1], other[1]) == ("a", "b")


@pytest.mark.parametrize("way", WAYS)
def test_a_result_that_depends_on_the_language_of_flask_babel_is_not_kept(
    site: Site, way: str
) -> None:
    Babel(site.app, locale_selector=lambda: {"a": "de", "b": "en"}[request.args["q"]])
    site.let(lambda: [str(get_locale()), format_decimal(1.5)], way)
    for view in VIEWS:
        assert [site.ask(who, view).json["value"] for who in "ab"] == [["de", "1,5"], ["en", "1.5"]]


# Reads that are covered by the key.


PRIVATE: list[Read] = [
    lambda: session["user"],
    lambda: request.cookies.get("own"),
    lambda: request.headers["Authorization"],
    lambda: request.headers["X-API-Key"],
    lambda: g.user,
    lambda: current_user.id,
]


@pytest.mark.parametrize("way", WAYS[:2])
@pytest.mark.parametrize("read", PRIVATE)
def test_private_key_keeps_a_result_for_each_owner(site: Site, way: str, read: Read) -> None:
    site.let(numbered(read), way, private_key=lambda: session["user"])
    first = [site.ask(who).json["value"] for who in "ab"]
    assert [who[-1:] for _, who in first] == ["a", "b"]
    for view in (*VIEWS, "page"):
        assert [site.ask(who, view).json["value"] for who in "ab"] == first


@pytest.mark.parametrize("way", WAYS[:2])
@pytest.mark.parametrize("name", ["x-tenant", "args", "view_args", "host", "address", "method"])
def test_private_key_lifts_only_what_is_private(site: Site, way: str, name: str) -> None:
    for read in reads_of(name):
        site.let(numbered(read), way, private_key=lambda: "one")
        for who in "ab":
            values = [site.ask(who).json for _ in range(2)]
            assert values[0]["value"][0] != values[1]["value"][0]
            assert all(one["value"][1] == one["own"][1] for one in values)


@pytest.mark.parametrize("way", WAYS[:2])
def test_without_an_owner_a_call_goes_past_the_cache(site: Site, way: str) -> None:
    site.let(lambda: [next(numbers), g.user], way, private_key=lambda: None)
    values = [site.ask(who).json["value"] for who in "aab"]
    assert [who for _, who in values] == ["a", "a", "b"]
    assert len({number for number, _ in values}) == 3


def test_delete_memoized_drops_the_results_of_all_owners(site: Site) -> None:
    @site.cache.memoize(private_key=lambda: session["user"])
    def hello(n: int) -> list[Any]:
        return [next(numbers), n, session["user"]]

    def ask(who: str, n: int) -> list[Any]:
        with site.app.test_request_context():
            session["user"] = who
            return hello(n)

    calls = [("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    first = [ask(*call) for call in calls]
    assert [(who, n) for _, n, who in first] == calls
    with site.app.app_context():
        site.cache.delete_memoized(hello, 1)
    second = [ask(*call) for call in calls]
    assert [one == other for one, other in zip(first, second, strict=True)] == [False] * 2 + [
        True
    ] * 2
    with site.app.app_context():
        site.cache.delete_memoized(hello)
    assert not [one for one in second if one in [ask(*call) for call in calls]]


@pytest.mark.parametrize(
    ("options", "read"),
    [
        ({"key_prefix": lambda: f"of {request.args['q']}"}, lambda: request.args["q"]),
        ({"key_prefix": lambda: session["user"]}, lambda: session["user"]),
        ({"key_prefix": lambda: request.host[0]}, lambda: request.host[0]),
        ({"key_prefix": "of/%s"}, lambda: request.path[-1]),
        (
            {"make_cache_key": lambda: request.headers["X-Tenant"]},
            lambda: request.headers["X-Tenant"],
        ),
        ({"make_cache_key": lambda: g.user}, lambda: g.user),
        ({"make_cache_key": lambda: str(request.cookies["own"])}, lambda: request.cookies["own"]),
        ({"query_string": True}, lambda: request.args["q"]),
    ],
)
def test_a_function_may_read_the_values_that_its_key_is_made_of(
    site: Site, options: Any, read: Read
) -> None:
    site.let(numbered(read), **options)
    first = [site.ask(who).json["value"] for who in "ab"]
    assert [who for _, who in first] == ["a", "b"]
    assert [site.ask(who).json["value"] for who in "ab"] == first
    site.cache.clear()
    site.let(lambda: [next(numbers), request.accept_languages.best], **options)
    assert len({site.ask("a").json["value"][0] for _ in range(2)}) == 2


@pytest.mark.parametrize(
    ("options", "read"),
    [
        ({"private_key": lambda: session["user"]}, lambda: session["user"]),
        ({"private_key": lambda: current_user.get_id()}, lambda: current_user.id),
        ({"private_key": lambda: g.user}, lambda: g.user),
        ({"key_prefix": lambda: session["user"]}, lambda: session["user"]),
        ({"key_prefix": lambda: request.args["q"]}, lambda: request.args["q"]),
        ({"key_prefix": "of/%s"}, lambda: request.path[-1]),
        ({"query_string": True}, lambda: request.args["q"]),
        (
            {"make_cache_key": lambda: request.headers["X-Tenant"]},
            lambda: request.headers["X-Tenant"],
        ),
        ({"unless": lambda: request.cookies["own"] == "b"}, lambda: request.cookies["own"]),
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_an_outer_function_returns_each_visitors_own_value_of_an_inner_one(
    site: Site, options: Any, read: Read, way: str
) -> None:
    site.let(read, **options)
    inner = site.app.extensions["call"]
    site.let(lambda: [inner()], way)
    site.app.extensions["read"] = str
    for view in ("plain", "page"):
        for who in "aabab":
            assert site.ask(who, view).json["value"] == [who]


def test_a_page_shows_each_visitors_own_value_of_a_function(site: Site, clock: Clock) -> None:
    read = reading("request.headers['X-Tenant']")
    site.let(read, make_cache_key=read)
    site.app.extensions["read"] = str
    client = site.app.test_client()
    for who in "aabab":
        clock.forward(10)  # until then the cache remembers that the page was not kept
        answer: Any = client.get("/page/one?q=one", headers={"X-Tenant": who})
        assert answer.json["value"] == who


# Reads that do not matter.


def logging_of(read: Read) -> Read:
    """Return a function that logs a line whose formatter calls `read`."""

    class Telling(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return f"{read()}: {record.getMessage()}"

    def log() -> None:
        handler = logging.StreamHandler(io.StringIO())
        handler.setFormatter(Telling())
        logger = logging.getLogger("of the app")
        logger.addHandler(handler)
        logger.warning("log")
        logger.removeHandler(handler)

    return log


def connection() -> str:
    """Return a connection of the request's own, as Flask's tutorial does."""
    if "db" not in g:
        g.db = "connection"
    return str([g.pop("db", ""), g.get("none"), g.setdefault("db", "again"), g.db])


@pytest.mark.parametrize(
    "read",
    [
        lambda: request.endpoint,
        lambda: [request.blueprint, request.blueprints],
        lambda: [current_app.name, current_app.config["CACHE_VERSION"], bool(request)],
        lambda: url_for("plain", who="x", page=2),
        lambda: render_template_string("{{ config.CACHE_VERSION }}{{ url_for('plain', who='x') }}"),
        connection,
        *map(
            logging_of,
            [read for name in ("path", "address", "x-tenant", "g.user") for read in reads_of(name)],
        ),
    ],
)
def test_a_result_that_reads_nothing_of_the_visitor_is_kept(site: Site, read: Read) -> None:
    site.let(numbered(read))
    answers = [site.ask(who, root="") for who in "ab"]
    assert answers[0].json["value"] == answers[1].json["value"]
    assert "Cache-Status" not in answers[0].headers


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["path", "x-tenant", "g.user", "session"])
def test_a_function_that_a_log_formatter_calls_is_watched(site: Site, way: str, name: str) -> None:
    for read in reads_of(name):
        site.let(read, way)
        call = site.app.extensions["call"]
        site.app.extensions |= {"call": lambda call=call: [logging_of(call)(), call()]}
        for who in "ab":
            answer = site.ask(who).json
            assert answer["value"] == [None, answer["own"]]


shared = Cache()  # of this module, whose classes can be pickled


@dataclass
class Item:
    """A thing to sell."""

    name: str
    count: int = 1


class Shop:
    """A class with memoized methods."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    @shared.memoize()
    def price(self, item: Item) -> list[float]:
        return [next(numbers), self.rate * item.count]

    @classmethod
    @shared.memoize()
    def name(cls) -> list[Any]:
        return [next(numbers), cls.__name__]


@shared.memoize(tags=["posts"])
def titles(limit: int) -> list[Any]:
    return [next(numbers), *db.session.scalars(select(Post.title).limit(limit))]


@shared.cached(key_prefix="site name")
def site_name() -> list[Any]:
    return [next(numbers), current_app.config["CACHE_KEY_PREFIX"], url_for("plain", who="all")]


@shared.memoize()
def letter(name: str) -> list[Any]:
    template = "{% if name %}Dear {{ name }},{% endif %} {{ url_for('plain', who='x') }}"
    return [next(numbers), render_template_string(template, name=name)]


@shared.cached()
def logged() -> int:
    logging_of(lambda: (request.url, request.remote_addr, current_user.get_id()))()
    return next(numbers)


@shared.memoize()
def double(n: int) -> list[Any]:
    return [next(numbers), n + n]


@shared.memoize()
def quadruple(n: int) -> list[Any]:
    return [next(numbers), double(n)[1] + double(n)[1], connection()]


@shared.memoize()
def parts(*names: str, **more: Any) -> Iterator[Any]:
    yield from [next(numbers), *names, *sorted(more)]


@shared.memoize()
async def fetched(n: int) -> list[Any]:
    await asyncio.sleep(0)
    return [next(numbers), n]


def computed() -> list[Any]:
    tags = ["posts", "users"]
    return shared.get_or_set("computed", lambda: [next(numbers), titles(3)], tags=tags)  # type: ignore[no-any-return]


ORDINARY: list[Read] = [
    lambda: titles(3),
    site_name,
    lambda: letter("Ada"),
    lambda: (current_user.is_authenticated, logged()),
    lambda: quadruple(2),
    lambda: Shop(1.5).price(Item("pen", 3)),
    lambda: Shop.name(),  # type: ignore[call-arg]
    lambda: parts("b", "a", colors={"red", "blue"}),
    lambda: fetched(2),
    computed,
    lambda: double(int(session["user"] == "a")),
    lambda: letter(name=current_user.id and "Grace"),
]


def test_ordinary_functions_of_an_app_with_logins_are_hits(
    bare: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bare, "async_to_sync", lambda f: lambda *a, **k: asyncio.run(f(*a, **k)))
    bare.register_blueprint(database)
    site = Site(bare, shared)
    shared.init_app(bare)
    with bare.app_context():
        fill()
    for function in ORDINARY:
        site.app.extensions |= {"call": function, "read": str}
        answers = [site.ask("a", root="") for _ in range(2)]
        assert answers[0].json["value"] == answers[1].json["value"]
        assert "Cache-Status" not in answers[1].headers


# Values that are kept.


class Unread(Sequence[int]):
    """A lazy sequence whose connection is closed, so that every access raises."""

    def __getitem__(self, at: Any) -> Any:
        raise ConnectionError

    __len__ = __iter__ = __contains__ = __getitem__  # type: ignore[assignment]


class Hidden:
    """An object that raises for attributes it does not have."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__dict__":
            raise RuntimeError
        return super().__getattribute__(name)

    def __reduce__(self) -> Any:
        return Hidden, ()


class UnreadDict(dict[str, int]):
    """A lazy dict whose connection is closed."""

    values = Unread.__getitem__  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        return UnreadDict, ()


@pytest.mark.parametrize("kind", [Unread, UnreadDict, Hidden])
@pytest.mark.parametrize("way", WAYS)
def test_a_value_whose_members_cannot_be_read_is_kept(site: Site, way: str, kind: Any) -> None:
    site.let(lambda: [kind(), next(numbers)], way)
    call = site.app.extensions["call"]
    with site.app.app_context():
        first, second = call(), call()
    assert (type(second[0]), second[1]) == (kind, first[1])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda post: post, True),
        (lambda post: [post], True),
        (lambda post: {"newest": post}, True),
        (lambda post: {"posts": [{"post": post}]}, True),
        (lambda post: (1, {post}), True),
        (lambda post: db.session.execute(select(Post, Post.title)).all(), True),
        (lambda post: db.session.execute(select(Post)).first(), True),
        (lambda post: Post(title="not stored"), True),
        (lambda post: post.title, False),
        (lambda post: [{"title": post.title}], False),
        (lambda post: db.session.execute(select(Post.id, Post.title)).all(), False),
    ],
)
def test_a_line_warns_of_objects_of_a_database_session(
    site: Site, caplog: Any, make: Any, told: bool
) -> None:
    def newest() -> Any:
        return make(db.session.scalars(select(Post)).first())

    site.app.register_blueprint(database)
    with site.app.app_context():
        fill()
        for way in WAYS:
            site.let(newest, way)
            site.app.extensions["call"]()
    lines = [text for text in caplog.messages if "objects of a database session" in text]
    assert [".<locals>.newest keeps " in text for text in lines] == [True] * told
