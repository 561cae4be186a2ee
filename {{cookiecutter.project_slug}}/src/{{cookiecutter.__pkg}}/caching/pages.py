"""One page, from request to answer: may it be kept, its key, a hit, a miss.

The rules are in `rules.py`: those of HTTP caches (RFC 9111), and stricter where an app has users.
"""

import asyncio
import functools
import hashlib
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from weakref import ref

from flask import Request, Response, after_this_request, current_app, has_request_context
from flask_caching import CachedResponse
from flask_caching.utils import wants_args
from werkzeug.http import parse_cookie

from . import advice, events, keys, parts, rules, views, visitor, watch
from .codec import Entry, shown
from .functions import Function, in_event_loop, sorted_query
from .leases import PASS
from .look import Look, Timeout, seconds


@functools.lru_cache(maxsize=256)  # few, because the URLs in the parts may be long
def _hashed(parts: tuple[Any, ...], hash_method: Any) -> str:
    return f"page:{(hash_method or hashlib.blake2s)(ascii(parts).encode()).hexdigest()}"


def decorate(parameters: dict[str, Any], function: Callable[..., Any]) -> Any:
    """Return `function` under the cache, with the `parameters` of `Cache.cached` or `memoize`.

    It is a page where it is the request's view. Raises TypeError or ValueError for a bad timeout.
    """
    given = dict(parameters)
    page = Page(given.pop("self"), function, **given)
    unless = page.unless
    with_args = unless is not None and wants_args(unless)

    def visit(args: Any, kwargs: Any) -> rules.Visit | None:
        if not has_request_context():
            return None
        context = watch.current_context()
        view = context.app.view_functions.get(context.request.endpoint)
        before: set[str] = getattr(context.request, "_read", watch.UNREAD).reads
        if getattr(context._session, "accessed", False):
            before = before | {"session"}
        method = context.request.method
        place = "direct" if view is wrapper else views.place(view, wrapper, method)
        return rules.Visit(context, before, place == "direct", args, kwargs) if place else None

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if decorated.make_cache_key is not make_cache_key:
            raise TypeError(f"{page.name}: make_cache_key is an argument of the decorator")
        asked = visit(args, kwargs)
        if unless:
            with asked.aside(in_key=False) if asked else nullcontext():
                skipped = unless(function, *args, **kwargs) if with_args else unless()
            if skipped is True:
                events.bypass((asked and asked.context.request.endpoint) or page.name, "unless")
                return page.call(args, kwargs)
        if asked is None:
            return page.result(decorated.cache_timeout, args, kwargs)
        if page in vars(asked.context.request).get("_making", ()):
            return page.call(args, kwargs)  # the view calls itself: that is no page
        if page.is_async and in_event_loop():  # below an async decorator
            return asyncio.to_thread(page.answer, asked, decorated.cache_timeout)
        return page.answer(asked, decorated.cache_timeout)

    def make_cache_key(*args: Any, **kwargs: Any) -> str:
        if page.make_name:  # Flask-Caching gives it the function first
            return page.key(args[1:], kwargs)
        asked, app = visit(args, kwargs), current_app or page.cache.app
        its_views = app.view_functions.values() if app and not asked else ()
        if any(views.place(view, wrapper, "GET") for view in its_views):
            raise RuntimeError(f"{page.name} is a page, with a key for each request: give it a tag")
        return page.page_key(asked) if asked else page.key(args, kwargs, page.owner())

    # Flask-Caching's attributes; the first can be set.
    decorated: Any = wrapper
    decorated.cache_timeout = page.timeout
    decorated.uncached = function
    decorated.make_cache_key = make_cache_key
    decorated.is_shared = not page.unclear
    if page.make_name:
        decorated.memo_tag = page.memo_tag
        decorated.delete_memoized = lambda: page.cache.delete_memoized(decorated)
    return decorated


class WatchedRequest(Request):
    """A request that notes what is read from it, by the names that `watch.py` lists."""

    _private: frozenset[str] = frozenset()  #: Keys of headers that say who the visitor is.
    _users: frozenset[str] = frozenset()  #: Names in `g` that say who the visitor is.
    _details: tuple[str, ...] = ()  #: Why functions' results were not kept.

    def __init__(self, environ: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        #: What was read of the request, and the open blocks.
        self._read = watch.Block()
        self._blocks = {self._read}
        watch.opened.set((self._read, *watch.opened.get()[1:]))
        # What was read for a log, and the plain values in `g` before that.
        self._logged, self._known = set[str](), dict[str, Any]()
        self._left = set[tuple[int, str]]()  # what hooks left: an object's id, its attribute
        super().__init__(environ, *args, **kwargs)
        headers: Any = self.headers
        if "_headers" not in vars(self):  # changed, since new ones would take twice the time
            headers.__class__, headers.environ = parts.Headers, parts.Environ((environ, ref(self)))

    @property
    def cookies(self) -> Any:
        """The cookies. Flask reads one of them to open the session, which is no read of the app."""
        context = watch.current_context() if has_request_context() else None
        header = self.environ.get("HTTP_COOKIE")
        if context and context.request is self and context._session is None:
            return parse_cookie(header, cls=self.dict_storage_class)
        cookies: Any = parse_cookie(header, cls=parts.Cookies)
        cookies.request = self
        return cookies

    @property
    def remote_addr(self) -> str | None:
        """The client's address."""
        watch.note(self, "REMOTE_ADDR")
        return self._address

    @remote_addr.setter
    def remote_addr(self, address: str | None) -> None:
        self._address = address


def watched(base: Any, private: tuple[str, ...], users: tuple[str, ...]) -> type[Request]:
    """Return a watched request class; `private` headers and `users` in `g` tell the visitor."""
    keys = {"HTTP_AUTHORIZATION", "REMOTE_USER", *map(visitor.environ_key, private)}
    bases = (base,) if issubclass(base, WatchedRequest) else (WatchedRequest, base)
    own = {**parts.uncached(base), "_private": frozenset(keys), "_users": frozenset(users)}
    return type(base.__name__, bases, own)


class PageLook(Look):
    """The look-up of a page for one request."""

    environ: dict[str, Any]

    def fits(self, entry: Entry) -> bool:
        """Tell whether the stored page is for this request, and not outdated."""
        if entry.value[3] and not rules.lacks(self.environ, entry.value[3]):
            self.alone = True  # it stays for others
            return False
        return not (self.outdated and self.outdated(entry))

    def is_private(self) -> bool:
        """Tell whether the request has the header or cookie that kept the page out just now."""
        present, until = self.private.get(self.key, ("", 0))
        return self.engine.clock() < until and not rules.lacks(self.environ, (present,))


class Page(Function):
    """A decorated function that answers requests where it is their view."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        if self.timeout is not None and not callable(self.timeout):
            seconds(self.timeout)  # which raises for a bad one
        self.vary_names = tuple(sorted(name.lower() for name in keys.names(self.vary)))
        self.vary_keys = tuple(map(visitor.environ_key, self.vary_names))
        # key -> what was read, and until when requests that have it leave the lease to others
        self.private: dict[str, tuple[str, float]] = {}
        self._query = None if self.query is None else tuple(sorted(keys.names(self.query)))

    def answer(self, asked: rules.Visit, timeout: Timeout) -> Any:
        """Answer by the stored page or the view; below decorators by what the view returned."""
        cache, args, kwargs = self.cache, asked.args, asked.kwargs
        request, app = asked.context.request, asked.context.app
        key, reason, environ = "", None, request.environ
        if request.method not in ("GET", "HEAD"):
            reason = "method"
        elif not isinstance(request, WatchedRequest):
            reason = "request_class: set it before cache.init_app"
        elif environ.get("CONTENT_LENGTH", "").strip("0") or "HTTP_TRANSFER_ENCODING" in environ:
            reason = "body"
        elif (backend := app.extensions["cache"][cache]).is_open and backend.stays_open():
            reason = "unavailable"
        else:
            try:
                key = self.page_key(asked)
            except keys.UnpicklableError:
                reason = "arguments that cannot be pickled"
            if self.private_key and asked.owner is None:
                reason = "no owner"
            elif asked.owner is None and not request._private.isdisjoint(environ):
                reason = "authorization"
            elif names := asked.before - visitor.FREE:
                reason, _ = rules.verdict(asked, names, self.vary_keys)
        if reason:
            return self._past(asked, reason)
        tag_keys = self.tag_keys
        if self.make_name:
            tag_keys += (keys.tag_key(self.key(args, kwargs)),)

        look = PageLook(cache, request.endpoint or self.name, key, timeout, tag_keys, self.grace)
        look.environ, look.private, look.alone = environ, self.private, request.method == "HEAD"
        if callable(timeout):
            look.timeout = asked.aside(in_key=False)(timeout)
        if self.forced_update or self.is_stale:
            with asked.aside(in_key=False):
                look.outdated = self.outdated(args, kwargs, functools.partial(shown, app))
        if not look.hit():
            with look:
                if look.entry is None:
                    value, page, refusal, look.fresh = rules.compute(self, asked)
                    look.mark = not asked.present
                    if asked.present:
                        self.private.clear() if len(self.private) > 999 else None
                        self.private[key] = asked.present, cache.clock() + PASS
                    own = isinstance(value, CachedResponse) and value.timeout
                    look.store(page, refusal, own or None)
        if cache.enable_signals:
            self.signal(look.entry is not None, key, args, kwargs)
        why = () if look.outcome == "stored" else (asked.detail or look.outcome,)
        said, added = "fwd=miss" if why else "fwd=miss; stored", []
        if look.entry is not None:
            now, expires = cache.clock(), look.entry.expires
            said = "hit" if expires == math.inf else f"hit; ttl={math.floor(expires - now)}"
            added = [("hit_cache", "True")] if self.response_hit_indication else []
            added.append(("Age", str(max(0, int(now - look.entry.created)))))
            value, asked.absent = shown(app, look.entry), look.entry.value[3]
        elif details := (*why, *request._details):
            said += f'; detail="{"; ".join(details)}"'
        if not asked.direct or "detail" in said:
            return self._send(asked, value, said, *added)
        added.append(("Cache-Status", f"{app.name}; {said}"))
        value.headers._list += added  # `add` would check each of them on each hit
        value.sent = [*value.headers._list]
        # 304 for a client that has the page already (RFC 9110, section 13).
        if "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MODIFIED_SINCE" in environ:
            value.make_conditional(environ)
        return value

    def page_key(self, asked: rules.Visit) -> str:
        """Return the key of a page, and note its owner. Raises TypeError for odd arguments."""
        request, own = asked.context.request, None
        environ, get, prefix = request.environ, request.environ.get, self.key_prefix
        if self.private_key or self.make_cache_key or callable(prefix):
            with asked.aside():
                asked.owner = self.private_key() if self.private_key else None
                own = self.make_cache_key and self.make_cache_key(*asked.args, **asked.kwargs)
                prefix = prefix() if callable(prefix) else prefix
        query: Any = get("QUERY_STRING", "")  # as it came: a view may read it raw
        if self._query == ():
            query = ()
        elif self._query is not None:
            query = (self._query, *map(tuple, map(request.args.getlist, self._query)))
        elif self.query_string:
            query = sorted_query(request)
        args, app = asked.args, asked.context.app
        if args and self.is_method:
            args = args[1:]
        # Those of the URL are in its path, unless a function of the app changes them.
        odd = args or asked.kwargs != request.view_args or app.url_value_preprocessors
        parts = (
            self.name,
            request.endpoint,
            prefix,
            self.source() if self.source_check or self.cache.source_check else None,
            *(get("wsgi.url_scheme"), get("HTTP_HOST"), get("SCRIPT_NAME"), get("PATH_INFO")),
            None if "HTTP_HOST" in environ else request.host,  # HTTP/1.0: the server's own name
            query,
            tuple(map(get, self.vary_keys)),
            None if asked.owner is None else keys.pickled(asked.owner),
            keys.pickled(own) if self.make_cache_key else None,
            keys.pickled((args, sorted(asked.kwargs.items())), self.name) if odd else None,
        )
        return _hashed(parts, self.hash_method or self.cache.hash_method)

    def _past(self, asked: rules.Visit, reason: str) -> Any:
        """Answer without the cache."""
        events.bypass(asked.context.request.endpoint or self.name, advice.label(reason))
        if self.private_key and reason != "no owner":
            asked.owner = asked.owner or "not asked for"
        said = "fwd=method" if reason == "method" else f'fwd=bypass; detail="{reason}"'
        return self._send(asked, self.call(asked.args, asked.kwargs), said)

    def _send(self, asked: rules.Visit, value: Any, said: str, *added: tuple[str, str]) -> Any:
        """Return what the view answered; its response is sent with these headers."""
        app = asked.context.app

        def complete(response: Response) -> Response:
            rules.finish(response, self.vary_names, asked.absent, asked.owner)
            response.headers.extend((*added, ("Cache-Status", f"{app.name}; {said}")))
            return response

        if asked.direct:
            return complete(app.make_response(value))
        after_this_request(complete)
        return value
