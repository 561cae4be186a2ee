"""The `cached` decorator: a view's finished page, or any other function's result."""

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import Response, after_this_request, current_app, request
from flask.globals import request_ctx
from flask_caching import CachedResponse
from flask_caching.signals import cache_view_hit, cache_view_miss
from flask_caching.utils import join_generator

from . import keys, page
from .entry import Computed, Entry, Timeout, seconds

if TYPE_CHECKING:
    from flask_caching import P, R, _CachedFunction

    from .cache import Cache


@dataclass(frozen=True, kw_only=True)
class Options:
    """The parameters of `Cache.cached`, which explains them."""

    timeout: Timeout
    key_prefix: str | Callable[[], str]
    unless: Callable[..., Any] | None
    forced_update: Callable[..., Any] | None
    is_stale: Callable[..., Any] | None
    response_filter: Callable[..., Any] | None
    hash_method: Callable[..., Any] | None
    make_cache_key: Callable[..., Any] | None
    source_check: bool | None
    hit_header: bool
    sort_query: bool
    query: tuple[str, ...] | None
    vary: tuple[str, ...]
    tags: tuple[str, ...]
    private_key: Callable[[], Any] | None


def decorate(
    cache: "Cache", function: "Callable[P, R]", options: Options
) -> "_CachedFunction[P, R]":
    """Return `function` under the cache. Raises TypeError or ValueError for a bad timeout."""
    if options.timeout is not None and not callable(options.timeout):
        seconds(options.timeout)
    calls = _Calls(cache, function, options)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if cache._bypass_cache(options.unless, function, *args, **kwargs):
            return cache._call_fn(function, *args, **kwargs)
        serve = calls.page if page.is_view(wrapper) else calls.value
        return serve(wrapper.cache_timeout, args, kwargs)  # type: ignore[attr-defined]

    # Flask-Caching's attributes; the first can be set.
    wrapper.cache_timeout = options.timeout  # type: ignore[attr-defined]
    wrapper.uncached = function  # type: ignore[attr-defined]
    wrapper.make_cache_key = calls.make_cache_key  # type: ignore[attr-defined]
    return wrapper  # type: ignore[return-value]


class _Calls:
    """The calls of one decorated function: their keys, and what answers them."""

    def __init__(self, cache: "Cache", function: Callable[..., Any], options: Options) -> None:
        self.cache = cache
        self.function = function
        self.options = options

    def page(self, timeout: Timeout, args: Any, kwargs: Any) -> Response:
        """Answer the current request from its stored page, or by the view."""
        options = self.options
        if request.method not in ("GET", "HEAD"):
            return self._bypass("fwd=method", None, args, kwargs)
        owner = options.private_key() if options.private_key else None
        reason = page.private(owner)
        if reason:
            return self._bypass("fwd=bypass", reason, args, kwargs)
        key = self._page_key(owner, args, kwargs)
        made: list[Response] = []

        def compute() -> Computed:
            later = len(request_ctx._after_request_functions)
            try:
                response = current_app.make_response(
                    self.cache._call_fn(self.function, *args, **kwargs)
                )
            except Exception:
                after_this_request(lambda r: page.report(r, "fwd=miss", "error"))
                raise
            made.append(response)
            refusal = page.refusal(response, options.vary) or page.private(owner)
            if request.method == "HEAD":
                refusal = "head"
            elif len(request_ctx._after_request_functions) > later:
                refusal = "after_this_request"  # a hit would not run what the view put off
            elif options.response_filter and not options.response_filter(response):
                refusal = refusal or "response_filter"
            if refusal:
                return Computed(response, refusal)
            own = response.timeout if isinstance(response, CachedResponse) else None
            return Computed(page.finish(response, options.vary), timeout=own or None)

        entry, computed = self.cache.load(
            key,
            compute,
            timeout,
            options.tags,
            outdated=self._outdated(args, kwargs, lambda e: page.respond(e, self.cache.clock())),
        )
        self._signal(computed is None, key, args, kwargs)
        if computed is not None and computed.refusal:
            return page.report(made[0], "fwd=miss", computed.refusal)
        if computed is not None:
            response = page.report(made[0], "fwd=miss; stored")
        else:
            now = self.cache.clock()
            response = page.respond(entry, now)
            fresh = "" if entry.expires == math.inf else f"; ttl={int(entry.expires - now)}"
            page.report(response, f"hit{fresh}")
            if options.hit_header:
                response.headers["hit_cache"] = "True"
        response.make_conditional(request.environ)
        return response

    def value(self, timeout: Timeout, args: Any, kwargs: Any) -> Any:
        """Return the function's stored result for these arguments, or compute it."""

        def compute() -> Computed:
            result = self.cache._call_fn(self.function, *args, **kwargs)
            if inspect.isgenerator(result):
                result = join_generator(result)
            keep = self.options.response_filter
            return Computed(result, "response_filter" if keep and not keep(result) else None)

        key = self._value_key(args, kwargs)
        entry, computed = self.cache.load(
            key,
            compute,
            timeout,
            self.options.tags,
            outdated=self._outdated(args, kwargs, lambda e: e.value),
        )
        self._signal(computed is None, key, args, kwargs)
        return entry.value

    def make_cache_key(self, *args: Any, **kwargs: Any) -> str:
        """Return the key of a call with these arguments, as any function's, not as a page's."""
        return self._value_key(args, kwargs)

    def _bypass(self, outcome: str, reason: str | None, args: Any, kwargs: Any) -> Response:
        response = current_app.make_response(self.cache._call_fn(self.function, *args, **kwargs))
        return page.report(response, outcome, reason)

    def _outdated(
        self, args: Any, kwargs: Any, shown: Callable[[Entry], Any]
    ) -> Callable[[Entry], bool]:
        """Return the answer of `forced_update` and `is_stale` for an entry that was found."""
        forced = self.cache._forced_update(self.options.forced_update, *args, **kwargs)
        is_stale = self.options.is_stale

        def outdated(entry: Entry) -> bool:
            return forced or (
                is_stale is not None
                and self.cache._is_stale(is_stale, shown(entry), *args, **kwargs)
            )

        return outdated

    def _signal(self, hit: bool, key: str, args: Any, kwargs: Any) -> None:
        if self.cache.enable_signals:
            signal = cache_view_hit if hit else cache_view_miss
            signal.send(cache=self.cache, cache_key=key, args=args, kwargs=kwargs)

    def _name(self) -> tuple[str, str, str | None]:
        """Return the function's name, its key_prefix, and its source if that shall count."""
        prefix = self.options.key_prefix
        check = self.cache._get_source_check(self.options.source_check)
        return (
            keys.name_of(self.function),
            prefix() if callable(prefix) else prefix,
            inspect.getsource(self.function) if check else None,
        )

    def _page_key(self, owner: Any, args: Any, kwargs: Any) -> str:
        own = self.options.make_cache_key
        return keys.hashed(
            "page",
            (
                *self._name(),
                page.place(self.options.vary),
                page.query_of(self.options.query, self.options.sort_query),
                None if owner is None else keys.pickled(owner),
                keys.pickled(own(*args, **kwargs)) if own else None,
            ),
            self.cache._get_hash_method(self.options.hash_method),
        )

    def _value_key(self, args: Any, kwargs: Any) -> str:
        """Return the key of a function's result.

        An explicit `key_prefix` is the key itself where there are no arguments to tell apart, so
        that `cache.delete(key_prefix)` works; so is what a `make_cache_key` returns.
        """
        if self.options.make_cache_key:
            return str(self.options.make_cache_key(*args, **kwargs))
        name, prefix, source = self._name()
        if prefix == "view/%s":
            prefix = name
        elif "%s" in prefix:
            prefix = prefix.replace("%s", request.path)
        elif not args and not kwargs and source is None:
            return prefix
        called = keys.arguments(self.function, args, kwargs)
        return keys.hashed(
            "value",
            (prefix, source, called),
            self.cache._get_hash_method(self.options.hash_method),
        )
