"""A hit is sent as it was stored. If it is changed after the view, Flask sends it as usual."""

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, after_this_request, request, session
from werkzeug.test import run_wsgi_app
from werkzeug.wrappers import Response as BareResponse

from shop.caching.cache import Cache
from tests.engine.fixtures import Clock

Change = Callable[[Response], Any]
closed: list[str] = []


def closing(response: Response) -> Response:
    response.call_on_close(lambda: closed.append("closed"))
    return response


def streamed(response: Response) -> Response:
    def parts() -> Iterator[str]:
        yield from ("in ", "parts")

    response.response = parts()
    response.headers.pop("Content-Length")
    return response


def with_session(response: Response) -> Response:
    session["seen"] = True
    return response


#: Functions of an app that change a response after the view.
CHANGES: list[Change] = [
    lambda response: response.headers.add("X-More", "1"),
    lambda response: response.headers.set("Location", "elsewhere"),
    lambda response: response.headers.set("Content-Type", "text/css"),
    lambda response: response.headers.clear(),
    lambda response: response.set_cookie("a", "b"),
    lambda response: response.set_data("HELLO"),
    lambda response: response.set_data("a longer one"),
    lambda response: setattr(response, "response", ["he", "llo"]),
    lambda response: setattr(response, "status", "202 Later"),
    lambda response: setattr(response, "status_code", 204),
    lambda response: response.vary.add("X-Tenant"),
    lambda response: response.make_conditional(request),
    lambda response: response.freeze(),
    lambda _: Response("another", status=404),
    lambda _: BareResponse("a bare one"),
    lambda response: response.response.append(" and more"),  # type: ignore[union-attr]
    lambda response: setattr(response, "close", lambda: closed.append("replaced")),
    lambda response: type(response)(
        response=response.response, status=response.status, headers=response.headers
    ),
    lambda response: type(response)("made anew", 201),
    lambda response: pickle.loads(pickle.dumps(response)),
    copy.copy,
    closing,
    streamed,
    with_session,
]


def changing(change: Change) -> Change:
    """Return `change` as a function for Flask, which wants the response back."""
    return lambda response: change(response) or response


@pytest.fixture
def app(bare: Flask, clock: Clock) -> Flask:
    """Return an app with a cached page and the same page without a cache."""
    cache = Cache(bare)
    cache.clock = clock
    bare.add_url_rule("/cached", "cached", cache.cached()(lambda: "hello"))
    bare.add_url_rule("/plain", "plain", lambda: "hello")
    return bare


def sent(app: Flask, path: str, method: str = "GET", **headers: str) -> tuple[Any, ...]:
    """Return the status, headers and body of an answer, and what was closed meanwhile."""
    closed.clear()
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "SERVER_NAME": "a", "SERVER_PORT": "80"}
    environ |= {"wsgi.url_scheme": "http", **headers}
    body, status, given = run_wsgi_app(app, environ, buffered=True)
    own = {"age", "cache-status", "etag"}
    its = [(name, value) for name, value in given if name.lower() not in own]
    return status, sorted(its), b"".join(body), [*closed]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_hit_that_is_changed_after_the_view_is_sent_as_any_response(
    app: Flask, change: Change, method: str
) -> None:
    app.after_request(changing(change))
    expected = sent(app, "/plain", method)
    for _ in range(3):
        assert sent(app, "/cached", method) == expected


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_to_one_answer_is_not_in_the_next(app: Flask, change: Change) -> None:
    changes: list[Change] = []

    @app.before_request
    def now_and_then() -> None:
        for it in changes:
            after_this_request(changing(it))

    plain = sent(app, "/plain")
    assert sent(app, "/cached") == plain
    changes.append(change)
    changed = sent(app, "/plain")
    assert sent(app, "/cached") == changed
    changes.clear()
    assert sent(app, "/cached") == plain


class Loud(Response):
    """A response class of an app that changes what is sent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.headers["X-Loud"] = "1"


class Signed(Response):
    """One that adds a header at last."""

    def get_wsgi_headers(self, environ: Any) -> Any:
        headers = super().get_wsgi_headers(environ)
        headers["X-Signed"] = "1"
        return headers


class Upper(Response):
    """One that changes the body at last."""

    def iter_encoded(self) -> Iterator[bytes]:
        return (part.upper() for part in super().iter_encoded())


class Called(Response):
    """One that adds a header when it is called."""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        self.headers["X-Called"] = "1"
        return super().__call__(environ, start_response)


class Accepted(Response):
    """One with a status of its own."""

    default_status = 202


class Closing(Response):
    """One that notes when it is closed."""

    def close(self) -> None:
        closed.append("its own")
        super().close()


@pytest.mark.parametrize("kind", [Loud, Signed, Upper, Called, Accepted, Closing])
def test_a_response_class_of_an_app_sends_hits_too(app: Flask, kind: type[Response]) -> None:
    app.response_class = kind
    expected = sent(app, "/plain")
    for _ in range(3):
        assert sent(app, "/cached") == expected


@pytest.mark.parametrize(
    "view",
    [
        lambda: Response(["in ", "parts"]),
        lambda: Response("named", headers={"Content-Location": "/\u00fc-\u20ac"}),
        lambda: Response("moved", headers={"Location": "elsewhere"}),
        lambda: ("a tuple", 200, {"X-More": "1"}),
    ],
)
def test_a_hit_has_the_headers_of_the_miss(app: Flask, view: Callable[[], Any]) -> None:
    app.view_functions["plain"] = view
    cache = Cache(app)
    app.view_functions["cached"] = cache.cached()(view)
    expected = sent(app, "/plain")
    for _ in range(3):
        assert sent(app, "/cached") == expected


def test_a_decorator_may_pickle_what_it_is_given(app: Flask) -> None:
    def decorator(view: Any) -> Any:
        return lambda: pickle.loads(pickle.dumps(view()))

    app.view_functions["cached"] = decorator(Cache(app).cached()(lambda: Response("hello")))
    assert [sent(app, "/cached")[2] for _ in range(3)] == [b"hello"] * 3
