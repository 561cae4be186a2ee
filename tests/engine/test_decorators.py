"""Decorators between the route and `cached` are given what the view returned."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, jsonify, make_response, request, session
from flask.views import MethodView, View
from werkzeug.test import TestResponse

from shop.caching.cache import Cache
from tests.engine.fixtures import Clock
from tests.engine.test_watch import Site, outcome

SECRET = {"name": "alice", "password_hash": "secret"}
PUBLIC = {"name": "alice"}


def public(value: Any) -> Any:
    """Return what strangers may see; as a schema it wants a dict."""
    assert type(value) is dict
    return {"name": value["name"]}


# Ways to write a decorator.


def with_wraps(view: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(view)
    def wrapper(**kwargs: Any) -> Any:
        return public(view(**kwargs))

    return wrapper


def without_wraps(view: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **kwargs: public(view(**kwargs))


class Instance:
    def __init__(self, view: Callable[..., Any]) -> None:
        self.view = view

    def __call__(self, **kwargs: Any) -> Any:
        return public(self.view(**kwargs))


class Subclass(Instance):
    def __init__(self, view: Callable[..., Any]) -> None:
        super().__init__({"views": [view]}["views"][0])


def apply(view: Callable[..., Any], **kwargs: Any) -> Any:
    return public(view(**kwargs))


def by_partial(view: Callable[..., Any]) -> Callable[..., Any]:
    return functools.partial(apply, view)


def by_bound_method(view: Callable[..., Any]) -> Callable[..., Any]:
    return Instance(view).__call__


def by_default(view: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(_view: Callable[..., Any] = view, **kwargs: Any) -> Any:
        return public(_view(**kwargs))

    return wrapper


def nested(view: Callable[..., Any]) -> Callable[..., Any]:
    def outer() -> Callable[..., Any]:
        handlers = {"GET": [view]}

        def inner(**kwargs: Any) -> Any:
            return public(handlers["GET"][0](**kwargs))

        return inner

    return outer()


WAYS = [
    *(with_wraps, without_wraps, Instance, Subclass, by_partial, by_bound_method, by_default),
    nested,
]


@pytest.fixture
def site(bare: Flask, clock: Clock) -> Site:
    cache = Cache(bare)
    cache.clock = clock
    return Site(bare, cache)


def answers(site: Site, count: int = 2, **more: Any) -> list[TestResponse]:
    return [site.get(**more) for _ in range(count)]


@pytest.mark.parametrize("decorator", WAYS)
def test_a_schema_above_sees_the_value_on_a_miss_and_a_hit(site: Site, decorator: Any) -> None:
    view = decorator(site.cache.cached(vary=["X-Tenant"])(lambda **_: SECRET))
    site.app.add_url_rule("/page", "page", view, methods=["GET", "POST"])
    for expected in ("stored", "hit", "hit"):
        answer = site.get()
        assert (answer.json, outcome(answer)) == (PUBLIC, expected)
        assert answer.headers["Vary"] == "x-tenant"
        assert ("Age" in answer.headers) == (expected == "hit")
    assert site.app.test_client().post("/page").json == PUBLIC
    assert site.get(headers={"Authorization": "x"}).json == PUBLIC
    head = site.app.test_client().head("/page")
    assert (head.data, outcome(head)) == (b"", "hit")


def of_method(method: Callable[..., Any], decorator: Any) -> Callable[..., Any]:
    return lambda self, **kwargs: decorator(functools.partial(method, self))(**kwargs)


@pytest.mark.parametrize("place", ["as_view", "decorators", "method"])
@pytest.mark.parametrize("decorator", [with_wraps, without_wraps])
def test_a_schema_above_a_class_or_its_method_sees_the_value(
    site: Site, decorator: Any, place: str
) -> None:
    cached = site.cache.cached()

    def inner(self: Any, **_: Any) -> Any:
        return SECRET

    kept = cached(inner)
    if place == "method":
        page: Any = type("Page", (MethodView,), {"get": of_method(kept, decorator)}).as_view("page")  # type: ignore[attr-defined]
    elif place == "decorators":
        own = {"dispatch_request": inner, "decorators": [cached, decorator]}
        page = type("Page", (View,), own).as_view("page")  # type: ignore[attr-defined]
    else:
        page = decorator(type("Page", (MethodView,), {"get": kept}).as_view("page"))  # type: ignore[attr-defined]
    site.app.add_url_rule("/page", "page", page)
    assert [(it.json, outcome(it)) for it in answers(site)] == [(PUBLIC, "stored"), (PUBLIC, "hit")]


@pytest.mark.parametrize("place", ["view", "method", "dispatch", "decorators"])
def test_directly_under_the_route_the_finished_page_is_kept(site: Site, place: str) -> None:
    cached, runs = site.cache.cached(), []

    def view(self: Any = None) -> Response:
        runs.append(1)
        return jsonify(PUBLIC)

    page: Any = cached(view)
    if place != "view":
        own: Any = {"method": ("get", {}), "dispatch": ("dispatch_request", {})}
        name, more = own.get(place, ("dispatch_request", {"decorators": [cached]}))
        base: Any = MethodView if place == "method" else View
        body = view if place == "decorators" else page
        page = type("Page", (base,), {name: body, **more}).as_view("page")  # type: ignore[attr-defined]
    site.app.add_url_rule("/page", "page", page)
    first, second = answers(site)
    assert (first.json, outcome(second), len(runs)) == (PUBLIC, "hit", 1)
    tag = {"If-None-Match": first.headers["ETag"]}
    assert site.get(headers=tag).status_code == 304


# What decorators do.


def appending(view: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper() -> Any:
        response = make_response(view())
        response.set_data(response.get_data() + b"!")
        return response

    return wrapper


def measuring(view: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper() -> Any:
        response = make_response(view())
        response.headers["X-Time"] = request.args.get("time", "")
        return response

    return wrapper


def setting_a_status(view: Callable[..., Any]) -> Callable[..., Any]:
    return lambda: (view(), 202)


def setting_a_cookie(view: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper() -> Any:
        response = make_response(view())
        response.set_cookie("visits", "1")
        return response

    return wrapper


@pytest.mark.parametrize("decorator", [appending, measuring, setting_a_status, setting_a_cookie])
@pytest.mark.parametrize(
    "body",
    [lambda: "page", lambda: Response("page", headers={"X-Own": "1"}), lambda: jsonify(a=1)],
)
def test_a_decorator_does_the_same_on_a_hit(site: Site, decorator: Any, body: Any) -> None:
    site.app.add_url_rule("/plain", "plain", decorator(body))
    site.app.add_url_rule("/page", "page", decorator(site.cache.cached()(body)))
    plain = site.get("/plain")
    for answer in answers(site, 3):
        assert (answer.status_code, answer.data) == (plain.status_code, plain.data)
        headers = dict(answer.headers)
        said, _ = headers.pop("Cache-Status"), headers.pop("Age", None)
        assert headers == dict(plain.headers)
    assert "hit" in said


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ((SECRET, 404), "status 404"),
        ((SECRET, 200, {"Cache-Control": "no-store"}), "no-store"),
        ((SECRET, {"Set-Cookie": "a=b"}), "set-cookie"),
        ((SECRET, [("Vary", "X-Tenant")]), "vary"),
        (({"name": "x" * 1_000_001}), "too large"),
        ({"name": open}, "stored"),
        ({"name": lambda: 1}, "cannot be pickled"),
        ((1, 2, 3, 4), "status 501"),
    ],
)
def test_a_value_is_kept_by_its_own_status_and_headers(site: Site, value: Any, reason: str) -> None:
    given: list[Any] = []

    def decorator(view: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper() -> str:
            given.append(view())
            return "page"

        return wrapper

    def view() -> Any:
        return value

    site.app.add_url_rule("/page", "page", decorator(site.cache.cached()(view)))
    first, second = answers(site)
    assert outcome(first) == reason
    assert outcome(second) == ("hit" if reason == "stored" else reason)
    assert given == [value, value]


def as_it_is(value: Any) -> Any:
    return value


@pytest.mark.parametrize("wrap", [as_it_is, lambda it: (it, 200)])
def test_a_generator_goes_through(site: Site, wrap: Any) -> None:
    def view() -> Any:
        def parts() -> Iterator[str]:
            yield from ("a", "b")

        return wrap(parts())

    site.app.add_url_rule("/page", "page", without_public(site.cache.cached()(view)))
    assert [(it.text, outcome(it)) for it in answers(site)] == [("ab", "streamed")] * 2


def without_public(view: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **kwargs: view(**kwargs)


def test_a_value_is_not_shared_between_requests(site: Site) -> None:
    def taking(view: Callable[..., Any]) -> Callable[..., Any]:
        return lambda: {"name": view().pop("name")}

    value: Callable[..., Any] = lambda: dict(SECRET)  # noqa: E731
    page = taking(site.cache.cached()(value))
    site.app.add_url_rule("/page", "page", page)
    assert [it.json for it in answers(site, 3)] == [PUBLIC] * 3


def test_the_rules_for_pages_hold_below_decorators(site: Site) -> None:
    def view(**_: Any) -> Any:
        return {"name": f"{session.get('user')} {request.headers.get('X-Tenant')}"}

    site.app.add_url_rule("/page", "page", without_wraps(site.cache.cached()(view)))
    for tenant in ("a", "b"):
        assert site.get(headers={"X-Tenant": tenant}).json == {"name": f"None {tenant}"}
    assert [outcome(it) for it in answers(site)] == ["stored", "hit"]


def test_an_argument_of_a_decorator_is_part_of_the_key(site: Site) -> None:
    def with_user(view: Callable[..., Any]) -> Callable[..., Any]:
        return lambda number: view(number, user={"name": request.args["user"]}, number=number)

    def view(again: int, user: dict[str, str], number: int) -> Any:
        return f"{user['name']} {number}"

    page = site.cache.cached(query=())(view)
    site.app.add_url_rule("/<int:number>", "page", with_user(page))
    for expected in ("stored", "hit"):
        for name in ("alice", "bob"):
            answer = site.get(f"/1?user={name}")
            assert (answer.text, outcome(answer)) == (f"{name} 1", expected)


def test_an_argument_that_cannot_be_pickled_goes_past_the_cache(site: Site) -> None:
    page = site.cache.cached()(lambda user: user())
    site.app.add_url_rule("/page", "page", lambda: page(user=lambda: "alice"))
    site.app.view_functions["page"] = (lambda view: lambda: view(user=lambda: "alice"))(page)
    assert [(it.text, outcome(it)) for it in answers(site)] == [
        ("alice", "arguments that cannot be pickled")
    ] * 2


def test_an_argument_that_the_app_makes_of_the_url_is_part_of_the_key(site: Site) -> None:
    @site.app.url_value_preprocessor
    def language(endpoint: str | None, values: dict[str, Any] | None) -> None:
        if values:
            values["language"] = site.app.config["LANGUAGE"]

    site.app.add_url_rule("/<language>", "page", site.cache.cached()(lambda language: language))
    for language_ in ("de", "en"):
        site.app.config["LANGUAGE"] = language_
        assert site.get("/x").text == language_


def test_a_helper_beside_its_views_stays_a_function_with_its_own_key(site: Site) -> None:
    runs: list[int] = []

    @site.cache.cached(key_prefix="total")
    def total() -> int:
        runs.append(1)
        return len(runs)

    for path in ("/a", "/b"):
        site.app.add_url_rule(path, path, lambda: [total()], methods=["GET", "POST"])
    client = site.app.test_client()
    assert [
        client.open(path, method=it).json for path in ("/a", "/b") for it in ("GET", "POST")
    ] == [[1]] * 4
    with site.app.app_context():
        assert site.cache.get("total") == 1
        assert site.cache.delete_cached(total)
    assert client.get("/a").json == [2]


def test_a_view_that_cannot_be_hashed_is_a_view(site: Site) -> None:
    @dataclasses.dataclass
    class Schema:
        view: Callable[..., Any]

        def __call__(self) -> Any:
            return public(self.view())

    def view() -> dict[str, str]:
        return SECRET

    site.app.add_url_rule("/page", "page", Schema(site.cache.cached()(view)))
    assert [(it.json, outcome(it)) for it in answers(site)] == [(PUBLIC, "stored"), (PUBLIC, "hit")]


def test_helpers_that_a_view_holds_stay_safe(site: Site) -> None:
    """In doubt a function counts as the page below a decorator."""
    helper = site.cache.cached()(lambda: {"name": request.path})

    def make() -> Callable[..., Any]:
        return lambda **_: helper()

    for path in ("/a", "/b"):
        site.app.add_url_rule(path, path, make())
    for _ in range(2):
        assert [site.get(path).json for path in ("/a", "/b")] == [{"name": "/a"}, {"name": "/b"}]


def test_response_filter_is_given_a_response(site: Site) -> None:
    seen: list[Any] = []

    def keep(response: Response) -> bool:
        seen.append((response.status_code, response.headers.get("X-Own")))
        return False

    cached: Any = site.cache.cached(response_filter=keep)
    page = cached(lambda **_: (SECRET, {"X-Own": "1"}))
    site.app.add_url_rule("/page", "page", without_public(page))
    assert outcome(site.get()) == "response_filter"
    assert seen == [(200, "1")]


def test_is_stale_is_given_the_value(site: Site) -> None:
    seen: list[Any] = []

    def is_stale(value: Any) -> bool:
        seen.append(value)
        return True

    cached: Any = site.cache.cached(is_stale=is_stale)
    site.app.add_url_rule("/page", "page", without_wraps(cached(lambda **_: SECRET)))
    assert [outcome(it) for it in answers(site)] == ["stored", "stored"]
    assert seen == [SECRET]
