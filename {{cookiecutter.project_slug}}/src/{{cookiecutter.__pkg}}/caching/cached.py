"""The decorators `cached` and `memoize`: a view's finished page, or any other function's result."""

import functools
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import (
    Request,
    Response,
    after_this_request,
    current_app,
    has_request_context,
    request,
)
from flask.ctx import RequestContext
from flask.globals import request_ctx
from flask_caching import CachedResponse, signals
from flask_caching.utils import join_generator, wants_args, wants_extra_args

from . import events, keys, page
from .entry import Computed, Entry, Timeout, seconds

if TYPE_CHECKING:
    from flask_caching import P, R

    from .cache import Cache

logger = logging.getLogger(__name__)
current_request: Any = request_ctx._get_current_object  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The parameters of `Cache.cached` and `Cache.memoize`, which explain them."""

    timeout: Timeout
    unless: Callable[..., Any] | None
    forced_update: Callable[..., Any] | None
    is_stale: Callable[..., Any] | None
    response_filter: Callable[..., Any] | None
    hash_method: Callable[..., Any] | None
    source_check: bool | None
    tags: tuple[str, ...]
    stale: float
    # Of `cached` only:
    key_prefix: str | Callable[[], str] = "view/%s"
    make_cache_key: Callable[..., Any] | None = None
    hit_header: bool = False
    sort_query: bool = False
    query: tuple[str, ...] | None = None
    vary: tuple[str, ...] = ()
    private_key: Callable[[], Any] | None = None
    # Of `memoize` only, which always sets `make_name`:
    make_name: Callable[[str], str] | None = None
    ignore: frozenset[str] = frozenset()


def decorate(cache: "Cache", function: "Callable[P, R]", options: Options) -> Any:
    """Return `function` under the cache. Raises TypeError or ValueError for a bad timeout."""
    if options.timeout is not None and not callable(options.timeout):
        seconds(options.timeout)
    calls = _Calls(cache, function, options)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if options.unless and _yes(options.unless, wants_args, (function,), args, kwargs):
            view = has_request_context() and page.is_view(current_request(), wrapper)
            events.bypass((view and request.endpoint) or calls.name, "unless")
            return calls.call(args, kwargs)
        context = current_request() if has_request_context() else None
        if context is not None and page.is_view(context, wrapper):
            if calls in context.__dict__.get("pages_being_made", ()):
                return calls.call(args, kwargs)  # the view calls itself: that is no page
            return calls.page(context, decorated.cache_timeout, args, kwargs)
        return calls.value(decorated.cache_timeout, args, kwargs)

    # Flask-Caching's attributes; the first can be set.
    decorated: Any = wrapper
    decorated.cache_timeout = options.timeout
    decorated.uncached = function
    if options.make_name:
        decorated.make_cache_key = lambda f, /, *args, **kwargs: calls.value_key(args, kwargs)
        decorated.memo_tag = calls.memo_tag
        decorated.delete_memoized = lambda: cache.delete_memoized(wrapper)
    else:
        decorated.make_cache_key = lambda *args, **kwargs: calls.value_key(args, kwargs)
    return decorated


def _yes(
    asked: Callable[..., Any],
    wants: Callable[..., bool],
    first: tuple[Any, ...],
    args: Any,
    kwargs: Any,
    least: tuple[Any, ...] = (),
) -> bool:
    """Tell whether a callable says True, given the call if it `wants` that, else the `least`."""
    return (asked(*first, *args, **kwargs) if wants(asked) else asked(*least)) is True


class _Calls:
    """The calls of one decorated function: their keys, and what answers them."""

    def __init__(self, cache: "Cache", function: Callable[..., Any], options: Options) -> None:
        self.cache = cache
        self.function = function
        self.options = options
        self.name = keys.name_of(function)
        # A bound method's object tells its calls apart like any other argument.
        self.bound = (function.__self__,) if inspect.ismethod(function) else ()
        self.signature = keys.Signature(getattr(function, "__func__", function), options.ignore)

    def call(self, args: Any, kwargs: Any) -> Any:
        """Call the function, which may be async."""
        return self.cache.app.ensure_sync(self.function)(*args, **kwargs)

    def page(self, context: RequestContext, timeout: Timeout, args: Any, kwargs: Any) -> Response:
        """Answer the request from its stored page, or by the view."""
        options, request, app = self.options, context.request, context.app
        if request.method not in ("GET", "HEAD"):
            return self._bypass("fwd=method", None, args, kwargs)
        owner = options.private_key() if options.private_key else None
        reason = page.private(context, owner)
        if reason:
            return self._bypass("fwd=bypass", reason, args, kwargs)
        key = self._page_key(request, owner, args, kwargs)
        made: list[Response] = []

        def compute() -> Computed:
            later = len(context._after_request_functions)
            context.__dict__.setdefault("pages_being_made", set()).add(self)
            try:
                response = app.make_response(self.call(args, kwargs))
            except Exception:
                after_this_request(lambda r: page.report(r, "fwd=miss", "error"))
                raise
            finally:
                context.__dict__["pages_being_made"].discard(self)
            made.append(response)
            refusal = page.refusal(response, options.vary) or page.private(context, owner)
            if request.method == "HEAD":
                refusal = "head"
            elif len(context._after_request_functions) > later:
                refusal = "after_this_request"  # a hit would not run what the view put off
            elif options.response_filter and not options.response_filter(response):
                refusal = refusal or "response_filter"
            if refusal:
                return Computed(response, refusal)
            own = response.timeout if isinstance(response, CachedResponse) else None
            return Computed(page.finish(response, options.vary), timeout=own or None)

        def shown(entry: Entry) -> Response:
            return page.respond(app, entry, self.cache.clock())

        tags = options.tags
        if options.make_name:
            tags = (*tags, self.memo_tag(None), self.value_key(args, kwargs))
        loaded = self.cache.load(
            request.endpoint or self.name,
            key,
            compute,
            timeout,
            tags,
            options.stale,
            outdated=self._outdated(args, kwargs, shown),
            alone=request.method == "HEAD",
        )
        self._signal(not made, key, args, kwargs)
        if made and loaded.outcome != "stored":
            return page.report(made[0], "fwd=miss", loaded.outcome)
        if made:
            return page.conditional(request, page.report(made[0], "fwd=miss; stored"))
        response = shown(loaded.entry)
        if options.hit_header:
            response.headers["hit_cache"] = "True"
        return page.conditional(request, response)

    def value(self, timeout: Timeout, args: Any, kwargs: Any) -> Any:
        """Return the function's stored result for these arguments, or compute it."""
        computed: list[Any] = []
        options = self.options
        # Nothing in the key but the function and its arguments: then the user must not matter.
        keyless = options.key_prefix == "view/%s" and not (
            options.make_cache_key or options.make_name
        )

        def compute() -> Computed:
            asked = current_request() if keyless and has_request_context() else None
            with page.watched(asked) as private:
                result = self.call(args, kwargs)
                if inspect.isgenerator(result):
                    result = join_generator(result)
            computed.append(result)
            keep = self.options.response_filter
            refusal = "response_filter" if keep and not keep(result) else None
            return Computed(result, private[0] if private else refusal)

        tags = self.options.tags
        if self.options.make_name:
            tags = (*tags, self.memo_tag(None))
            if self.signature.is_method and args:
                tags = (*tags, self.memo_tag(args[0]))
        key = self.value_key(args, kwargs)
        loaded = self.cache.load(
            self.name,
            key,
            compute,
            timeout,
            tags,
            self.options.stale,
            outdated=self._outdated(args, kwargs, lambda e: e.value),
        )
        self._signal(not computed, key, args, kwargs)
        return loaded.entry.value

    def memo_tag(self, owner: Any) -> str:
        """Return the tag of all that is memoized, or of what is for one object's method."""
        one = owner is not None and self.signature.is_method
        of = self.signature.pickled(owner).hex() if one else ""
        return f"memoized {self.name} {of}"

    def _bypass(self, outcome: str, reason: str | None, args: Any, kwargs: Any) -> Response:
        events.bypass(request.endpoint or self.name, reason or "method")
        response = current_app.make_response(self.call(args, kwargs))
        return page.report(response, outcome, reason)

    def _outdated(
        self, args: Any, kwargs: Any, shown: Callable[[Entry], Any]
    ) -> Callable[[Entry], bool] | None:
        """Return what answers `forced_update` and `is_stale` for an entry that was found."""
        forced_update, is_stale = self.options.forced_update, self.options.is_stale
        if forced_update is None and is_stale is None:
            return None
        forced = forced_update is not None and _yes(forced_update, wants_args, (), args, kwargs)

        def outdated(entry: Entry) -> bool:
            if forced or is_stale is None:
                return forced
            value = (shown(entry),)
            return _yes(is_stale, wants_extra_args, value, args, kwargs, value)

        return outdated

    def _signal(self, hit: bool, key: str, args: Any, kwargs: Any) -> None:
        """Send Flask-Caching's signal; a receiver that raises harms nothing but the log."""
        if not self.cache.enable_signals:
            return
        about = {"cache": self.cache, "cache_key": key, "args": args, "kwargs": kwargs}
        if self.options.make_name:
            about["f"] = self.function
            signal = signals.cache_memoize_hit if hit else signals.cache_memoize_miss
        else:
            signal = signals.cache_view_hit if hit else signals.cache_view_miss
        try:
            signal.send(**about)
        except Exception:
            logger.exception("A receiver of %r failed", signal)

    def _source(self) -> str | None:
        """Return the function's source if that shall count."""
        check = self.cache._get_source_check(self.options.source_check)
        return inspect.getsource(self.function) if check else None

    def _prefix(self) -> str:
        prefix = self.options.key_prefix
        return prefix() if callable(prefix) else prefix

    def _page_key(self, request: Request, owner: Any, args: Any, kwargs: Any) -> str:
        own = self.options.make_cache_key
        return keys.hashed(
            "page",
            (
                self.name,
                self._prefix(),
                self._source(),
                page.place(request, self.options.vary),
                page.query_of(request, self.options.query, self.options.sort_query),
                None if owner is None else keys.pickled(owner),
                keys.pickled(own(*args, **kwargs)) if own else None,
            ),
            self.cache._get_hash_method(self.options.hash_method),
        )

    def value_key(self, args: Any, kwargs: Any) -> str:
        """Return the key of a function's result.

        An explicit `key_prefix` is the key itself where there are no arguments to tell apart, so
        that `cache.delete(key_prefix)` works; so is what a `make_cache_key` returns.
        """
        if self.options.make_cache_key:
            return str(self.options.make_cache_key(*args, **kwargs))
        kind, prefix, source = "value", self._prefix(), self._source()
        sort = self.options.sort_query and has_request_context()
        query = page.query_of(request, None, True) if sort else None
        if self.options.make_name:
            kind, prefix = "memoized", self.options.make_name(self.name)
        elif self.options.key_prefix == "view/%s":
            prefix = self.name
        elif "%s" in prefix and prefix == self.options.key_prefix:
            prefix = prefix.replace("%s", request.path)
        elif not args and not kwargs and source is None and query is None:
            return prefix
        return keys.hashed(
            kind,
            (prefix, source, query, self.signature.arguments((*self.bound, *args), kwargs)),
            self.cache._get_hash_method(self.options.hash_method),
        )
