"""HTTP: from a request to a key, from a response to a stored page and back, and what is private."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, Request, Response, current_app, request
from flask.ctx import RequestContext
from werkzeug.datastructures import Headers
from werkzeug.http import parse_cookie

from .entry import Entry

#: A finished response: body, status, headers.
Page = tuple[bytes, int, tuple[tuple[str, str], ...]]

# What follows is done on each hit, so it is given the request itself: Flask's `request` looks it up
# anew each time.

# The parts of the WSGI environment that say which page is asked for, exactly as they came.
_PLACE = ("wsgi.url_scheme", "HTTP_HOST", "SCRIPT_NAME", "PATH_INFO")


def query_of(request: Request, declared: tuple[str, ...] | None, any_order: bool) -> Any:
    """Return the part of the query that tells pages apart: the `declared` parameters, or all.

    All of it counts as it came, for a view may read it raw; with `any_order` as sorted pairs.
    The values of a repeated parameter keep their order.
    """
    if declared is not None:
        return tuple((name, tuple(request.args.getlist(name))) for name in declared)
    if any_order:
        return tuple(sorted(request.args.items(multi=True), key=lambda pair: pair[0]))
    return request.environ.get("QUERY_STRING", "")


def place(request: Request, vary: tuple[str, ...]) -> tuple[Any, ...]:
    """Return where the request is addressed to, with its headers named in `vary`."""
    where: tuple[Any, ...] = tuple(map(request.environ.get, _PLACE))
    if where[1] is None:  # HTTP/1.0: then it is the server's own name
        where += (request.host,)
    return (*where, *map(request.headers.get, vary)) if vary else where


def refusal(response: Response, vary: tuple[str, ...]) -> str | None:
    """Return why `response` may not be stored, None if it may (after RFC 9111, section 3)."""
    if response.status_code != 200:
        return f"status {response.status_code}"
    if response.is_streamed or response.direct_passthrough:
        return "streamed"
    if "Set-Cookie" in response.headers:
        return "set-cookie"
    control = {name.lower(): value for name, value in response.cache_control.items()}
    for directive in ("private", "no-store", "no-cache"):
        if directive in control:
            return directive
    for directive in ("max-age", "s-maxage"):
        if control.get(directive) == "0":
            return f"{directive}=0"
    if {name.lower() for name in response.vary} - set(vary):
        return "vary"
    if len(response.get_data()) > current_app.config["CACHE_MAX_PAGE_BYTES"]:
        return "too large"
    return None


def finish(response: Response, vary: tuple[str, ...]) -> Page:
    """Complete `response` with ETag and Vary, and return the page to store."""
    response.add_etag()
    response.vary.update(vary)
    response.headers.pop("Age", None)  # of what it was made from: its own begins now
    return response.get_data(), response.status_code, tuple(response.headers)


def is_view(context: RequestContext, function: Callable[..., Any]) -> bool:
    """Tell whether `function` is the request's view, alone or under other decorators."""
    request = context.request
    if request.endpoint is None:
        return False
    view: Any = context.app.view_functions[request.endpoint]
    while view is not None:
        if view is function:
            return True
        methods = getattr(view, "view_class", None)
        if methods is not None and (
            # Put on when the request came, as Flask-RESTful's `method_decorators` are.
            isinstance(getattr(_inmost(function), "__self__", None), methods)
            or any(
                _wraps(getattr(methods, name, None), function)
                for name in (request.method.lower(), "get", "dispatch_request")
            )
        ):
            return True
        view = getattr(view, "__wrapped__", None)
    return False


def _inmost(function: Any) -> Any:
    while not hasattr(function, "__self__") and hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


def _wraps(outer: Any, function: Callable[..., Any]) -> bool:
    while outer is not None and outer is not function:
        outer = getattr(outer, "__wrapped__", None)
    return outer is function


def forget_cookies(app: Flask, **_: Any) -> None:
    """Make it seen when somebody reads the cookies, other than Flask, which reads the session.

    Werkzeug keeps parsed cookies in the request's `__dict__`. Called when the session is open and
    before any hook runs.
    """
    request._get_current_object().__dict__.pop("cookies", None)  # type: ignore[attr-defined]


@contextmanager
def watched(context: RequestContext | None) -> Iterator[list[str]]:
    """Note in the list that the block looked at the session or the cookies of the request."""
    seen: list[str] = []
    if context is None or context._session is None:
        yield seen
        return
    session, values = context._session, context.request.__dict__
    before, cookies = session.accessed, values.pop("cookies", None)
    session.accessed = False
    try:
        yield seen
    finally:
        if session.accessed:
            seen.append("session")
        elif "cookies" in values:
            seen.append("cookie")
        session.accessed |= before
        if cookies is not None:
            values["cookies"] = cookies


def private(context: RequestContext, owner: Any) -> str | None:
    """Return what makes the request private so far, None if nothing does.

    `owner` lifts the rules of session and cookies: the page is kept for its owner alone.
    """
    environ, session = context.request.environ, context._session
    if "HTTP_AUTHORIZATION" in environ or "REMOTE_USER" in environ:
        return "authorization"
    if owner is not None:
        return None
    # Its own flag: Flask's `session` proxy marks it as accessed (Flask 3.1.3).
    if session is not None and session.accessed:
        return "session"
    if "cookies" in context.request.__dict__:
        return "cookie"
    header = environ.get("HTTP_COOKIE")
    if not header:
        return None
    name = context.app.session_interface.get_cookie_name(context.app)
    return "session" if name in parse_cookie(header) else None


def respond(app: Flask, entry: Entry, now: float) -> Response:
    """Return the stored page as a response, as old as it is, with its Cache-Status."""
    body, status, stored = entry.value
    ttl = "" if entry.expires == math.inf else f"; ttl={math.floor(entry.expires - now)}"
    headers = Headers()
    # They were checked when the page was made: `add` would check each of them on each hit.
    headers._list += stored
    headers._list.append(("Age", str(max(0, int(now - entry.created)))))
    headers._list.append(("Cache-Status", f"{app.name}; hit{ttl}"))
    return app.response_class([body], status, headers)  # a list's length is not computed again


def conditional(request: Request, response: Response) -> Response:
    """Answer 304 to a client that has the page already (RFC 9110, section 13)."""
    environ = request.environ
    if "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MODIFIED_SINCE" in environ:
        response.make_conditional(environ)
    return response


def report(response: Response, outcome: str, reason: str | None = None) -> Response:
    """Say in `Cache-Status` (RFC 9211) what the cache did, and why if it stored nothing."""
    detail = f'; detail="{reason}"' if reason else ""
    response.headers.add("Cache-Status", f"{current_app.name}; {outcome}{detail}")
    return response
