"""One page, from request to answer: may it be kept, its key, a hit, a miss.

The rules are those of HTTP caches (RFC 9111), and stricter where an app has users.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

from flask import Flask, Request, Response, after_this_request, has_request_context, request
from flask.ctx import RequestContext
from flask.globals import request_ctx
from flask_caching import CachedResponse
from flask_caching.utils import wants_args
from werkzeug.datastructures import Headers
from werkzeug.http import parse_cookie

from . import events, keys
from .functions import Function, sorted_query
from .look import Entry, Look, Timeout, seconds

current_request: Any = request_ctx._get_current_object  # type: ignore[attr-defined]
# Wanted on each hit. Few keys are remembered, because the URLs in them may be long.
_hashed = functools.lru_cache(maxsize=256)(keys.hashed)


def decorate(parameters: dict[str, Any], function: Callable[..., Any]) -> Any:
    """Return `function` under the cache: a page where it is the request's view.

    `parameters` are those of `Cache.cached` or `Cache.memoize`, `self` included. Raises TypeError
    or ValueError for a bad timeout.
    """
    own = {name: value for name, value in parameters.items() if name != "self"}
    page = Page(cache=parameters["self"], function=function, **own)
    unless = page.unless
    with_args = unless is not None and wants_args(unless)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        context = current_request() if has_request_context() else None
        is_view = context is not None and (
            context.app.view_functions.get(context.request.endpoint) is wrapper
            or _is_view(context, wrapper)
        )
        if unless and (unless(function, *args, **kwargs) if with_args else unless()) is True:
            events.bypass((is_view and request.endpoint) or page.name, "unless")
            return page.call(args, kwargs)
        if context is None or not is_view:
            return page.result(decorated.cache_timeout, args, kwargs)
        if page in context.__dict__.get("pages_being_made", ()):
            return page.call(args, kwargs)  # the view calls itself: that is no page
        return page.answer(context, decorated.cache_timeout, args, kwargs)

    # Flask-Caching's attributes; the first can be set.
    decorated: Any = wrapper
    decorated.cache_timeout = page.timeout
    decorated.uncached = function
    if page.make_name:
        decorated.make_cache_key = lambda f, /, *args, **kwargs: page.key(args, kwargs)
        decorated.memo_tag = page.memo_tag
        decorated.delete_memoized = lambda: page.cache.delete_memoized(decorated)
    else:
        decorated.make_cache_key = lambda *args, **kwargs: page.key(args, kwargs)
    return decorated


class Page(Function):
    """A decorated function that answers requests where it is their view."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.timeout is not None and not callable(self.timeout):
            seconds(self.timeout)  # which raises for a bad one
        self._vary = tuple(sorted(name.lower() for name in keys.names(self.vary)))
        self._query = None if self.query is None else tuple(sorted(keys.names(self.query)))

    def answer(self, context: RequestContext, timeout: Timeout, args: Any, kwargs: Any) -> Response:
        """Answer the request by the stored page, or by the view."""
        request, app, cache = context.request, context.app, self.cache
        name, alone = request.endpoint or self.name, request.method == "HEAD"
        owner = self.private_key() if self.private_key else None
        reason = _private(context, owner) if alone or request.method == "GET" else "method"
        if reason:
            events.bypass(name, reason)
            said = "fwd=method" if reason == "method" else f'fwd=bypass; detail="{reason}"'
            return _report(app, app.make_response(self.call(args, kwargs)), said)
        key, tag_keys = self._page_key(request, owner, args, kwargs), self.tag_keys
        if self.make_name:
            tag_keys += (keys.tag_key(self.key(args, kwargs)),)
        outdated = None
        if self.forced_update or self.is_stale:
            outdated = self.outdated(args, kwargs, lambda e: _stored(app, e, cache.clock()))
        with Look(cache, name, key, timeout, tag_keys, self.grace, outdated, alone) as look:
            if look.entry is None:
                response, refusal = self._compute(context, owner, args, kwargs)
                page = response if refusal else _finish(response, self._vary)
                own = response.timeout if isinstance(response, CachedResponse) else None
                look.store(page, refusal, own or None)
        if cache.enable_signals:
            self.signal(look.entry is not None, key, args, kwargs)
        if look.entry is not None:
            response = _stored(app, look.entry, cache.clock())
            if self.response_hit_indication:
                response.headers["hit_cache"] = "True"
        elif look.outcome == "stored":
            response.headers.add("Cache-Status", f"{app.name}; fwd=miss; stored")
        else:
            return _report(app, response, f'fwd=miss; detail="{look.outcome}"')
        # 304 for a client that has the page already (RFC 9110, section 13).
        environ = request.environ
        if "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MODIFIED_SINCE" in environ:
            response.make_conditional(environ)
        return response

    def _page_key(self, request: Request, owner: Any, args: Any, kwargs: Any) -> str:
        environ, own = request.environ, self.make_cache_key
        query: Any = environ.get("QUERY_STRING", "")  # as it came: a view may read it raw
        if self._query is not None:
            query = (self._query, *map(tuple, map(request.args.getlist, self._query)))
        elif self.query_string:
            query = sorted_query(request)
        parts = (
            self.name,
            self.key_prefix if isinstance(self.key_prefix, str) else self.key_prefix(),
            self.source() if self.source_check or self.cache.source_check else None,
            *map(environ.get, ("wsgi.url_scheme", "HTTP_HOST", "SCRIPT_NAME", "PATH_INFO")),
            None if "HTTP_HOST" in environ else request.host,  # HTTP/1.0: the server's own name
            query,
            tuple(map(request.headers.get, self._vary)),
            None if owner is None else keys.pickled(owner),
            keys.pickled(own(*args, **kwargs)) if own else None,
        )
        return _hashed("page", parts, self.hash_method or self.cache.hash_method)

    def _compute(
        self, context: RequestContext, owner: Any, args: Any, kwargs: Any
    ) -> tuple[Response, str | None]:
        """Call the view; return its response, and the reason not to keep it or None."""
        app = context.app
        later = len(context._after_request_functions)
        context.__dict__.setdefault("pages_being_made", set()).add(self)
        try:
            response = app.make_response(app.ensure_sync(self.function)(*args, **kwargs))
        except Exception:
            after_this_request(lambda r: _report(app, r, 'fwd=miss; detail="error"'))
            raise
        finally:
            context.__dict__["pages_being_made"].discard(self)
        limit = app.config["CACHE_MAX_PAGE_BYTES"]
        refusal = "head" if context.request.method == "HEAD" else None
        refusal = refusal or _refusal(response, self._vary, limit) or _private(context, owner)
        if not refusal and len(context._after_request_functions) > later:
            refusal = "after_this_request"  # a hit would not run these functions
        if not refusal and self.response_filter and not self.response_filter(response):
            refusal = "response_filter"
        return response, refusal


def forget_cookies(app: Flask, **_: Any) -> None:
    """Forget the parsed cookies, so that it is seen when a hook or the view reads them.

    Werkzeug keeps parsed cookies in the request's `__dict__`, and Flask itself has read them to
    open the session. Called before any hook runs.
    """
    request._get_current_object().__dict__.pop("cookies", None)  # type: ignore[attr-defined]


def _private(context: RequestContext, owner: Any) -> str | None:
    """Return why the request is private so far, None if it is not.

    With an `owner` the session and cookies are no reason: the page is kept for its owner alone.
    """
    environ, session = context.request.environ, context._session
    if "HTTP_AUTHORIZATION" in environ or "REMOTE_USER" in environ:
        return "authorization"
    if owner is not None:
        return None
    # Not by Flask's `session` proxy, which marks it as accessed (Flask 3.1.3).
    if session is not None and session.accessed:
        return "session"
    if "cookies" in context.request.__dict__:
        return "cookie"
    header = environ.get("HTTP_COOKIE")
    if not header:
        return None
    name = context.app.session_interface.get_cookie_name(context.app)
    return "session" if name in parse_cookie(header) else None


def _refusal(response: Response, vary: tuple[str, ...], limit: int) -> str | None:
    """Return why `response` must not be stored, None if it may be (after RFC 9111, section 3).

    `vary` are the declared headers in lower case, `limit` the largest body in bytes.
    """
    if response.status_code != 200:
        return f"status {response.status_code}"
    if response.is_streamed or response.direct_passthrough:
        return "streamed"
    if "Set-Cookie" in response.headers:
        return "set-cookie"
    for directive, value in response.cache_control.items():
        if directive.lower() in ("private", "no-store", "no-cache"):
            return directive.lower()
        if directive.lower() in ("max-age", "s-maxage") and value == "0":
            return f"{directive.lower()}=0"
    if set(map(str.lower, response.vary)) - set(vary):
        return "vary"
    return "too large" if len(response.get_data()) > limit else None


def _finish(response: Response, vary: tuple[str, ...]) -> tuple[bytes, int, tuple[Any, ...]]:
    """Complete `response` with ETag and Vary; return the body, status and headers to store."""
    response.add_etag()
    response.vary.update(vary)
    response.headers.pop("Age", None)  # of another cache: its own age begins now
    return response.get_data(), response.status_code, tuple(response.headers)


def _stored(app: Flask, entry: Entry, now: float) -> Response:
    """Return the stored page as a response, with its age and Cache-Status."""
    body, status, stored = entry.value
    ttl = "" if entry.expires == math.inf else f"; ttl={math.floor(entry.expires - now)}"
    headers = Headers()
    # They were checked when the page was made; `add` would check each of them on each hit.
    headers._list += stored
    headers._list.append(("Age", str(max(0, int(now - entry.created)))))
    headers._list.append(("Cache-Status", f"{app.name}; hit{ttl}"))
    return app.response_class([body], status, headers)  # a list's length is not computed again


def _report(app: Flask, response: Response, said: str) -> Response:
    """Add `Cache-Status` (RFC 9211): what the cache did, and why it stored nothing."""
    response.headers.add("Cache-Status", f"{app.name}; {said}")
    return response


def _is_view(context: RequestContext, function: Callable[..., Any]) -> bool:
    """Tell whether `function` is the request's view under other decorators, or its method."""
    request = context.request
    views = list(_unwrapped(context.app.view_functions.get(request.endpoint or "")))
    *_, inmost = _unwrapped(function)
    owner = getattr(inmost, "__self__", None)
    names = (request.method.lower(), "get", "dispatch_request")
    return function in views or any(
        # Put on when the request came, as Flask-RESTful's `method_decorators` are.
        isinstance(owner, view.view_class)
        or function in _unwrapped(getattr(view.view_class, name, None))
        for view in views
        if hasattr(view, "view_class")
        for name in names
    )


def _unwrapped(function: Any) -> Iterator[Any]:
    """Yield a function and those that it wraps, down to a bound method."""
    while function is not None:
        yield function
        bound = hasattr(function, "__self__")
        function = None if bound else getattr(function, "__wrapped__", None)
