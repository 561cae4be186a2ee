"""One function under the cache: its key, its tags, its results, and how they are forgotten."""

import hashlib
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flask import Request, has_request_context, request
from flask.globals import request_ctx
from flask_caching import signals
from flask_caching.utils import join_generator, wants_args, wants_extra_args

from . import keys, tags
from .entry import Entry, Seconds, Timeout, seconds
from .look import Engine

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Options:
    """The parameters of `Cache.cached` and `Cache.memoize`, which document them."""

    timeout: Timeout
    unless: Callable[..., Any] | None
    forced_update: Callable[..., Any] | None
    is_stale: Callable[..., Any] | None
    response_filter: Callable[..., Any] | None
    hash_method: Callable[..., Any] | None
    cache_none: bool
    source_check: bool | None
    tags: Iterable[str]
    stale: Seconds
    # Of `cached` only:
    key_prefix: str | Callable[[], str] = "view/%s"
    make_cache_key: Callable[..., Any] | None = None
    response_hit_indication: bool | None = False
    query_string: bool = False
    query: Iterable[str] | None = None
    vary: Iterable[str] = ()
    private_key: Callable[[], Any] | None = None
    # Of `memoize` only, which always sets `make_name`:
    make_name: Callable[[str], str] | None = None
    args_to_ignore: Iterable[str] | None = None


class Function:
    """A decorated function."""

    def __init__(self, cache: Engine, function: Callable[..., Any], options: Options) -> None:
        self.cache = cache
        self.function = function
        self.options = options
        self.name = keys.name_of(function)
        ignored = frozenset(keys.names(options.args_to_ignore or ()))
        self.signature = keys.Signature(getattr(function, "__func__", function), ignored)
        self.stale = seconds(options.stale)
        self.tag_keys = tuple(map(tags.key, dict.fromkeys(keys.names(options.tags))))
        if options.make_name:
            self.tag_keys += (tags.key(self.memo_tag(None)),)
        # A bound method's object tells its calls apart like any other argument.
        self._bound = (function.__self__,) if inspect.ismethod(function) else ()
        # Nothing but the arguments is in the key: then the user must not matter.
        self._is_keyless = options.key_prefix == "view/%s" and not (
            options.make_cache_key or options.make_name
        )

    def call(self, args: Any, kwargs: Any) -> Any:
        """Call the function, which may be async."""
        return self.cache.app.ensure_sync(self.function)(*args, **kwargs)

    def result(self, timeout: Timeout, args: Any, kwargs: Any) -> Any:
        """Return the function's stored result for these arguments, or compute it."""
        options, key = self.options, self.key(args, kwargs)
        tag_keys = self.tag_keys
        if options.make_name and self.signature.is_method and args:
            tag_keys += (tags.key(self.memo_tag(args[0])),)
        outdated = self.outdated(args, kwargs, lambda entry: entry.value)
        with self.cache.look(
            self.name, key, timeout, tag_keys, self.stale, outdated=outdated
        ) as look:
            if look.entry is not None:
                value = look.entry.value
            else:
                with _watched(self._is_keyless) as private:
                    value = self.call(args, kwargs)
                    if inspect.isgenerator(value):
                        value = join_generator(value)
                refusal = private[0] if private else None
                if options.response_filter and not options.response_filter(value):
                    refusal = refusal or "response_filter"
                look.store(value, refusal)
        if self.cache.enable_signals:
            self.signal(look.entry is not None, key, args, kwargs)
        return value

    def key(self, args: Any, kwargs: Any) -> str:
        """Return the key of the function's result for these arguments.

        An explicit `key_prefix` is the key itself where there are no arguments to tell apart, so
        that `cache.delete(key_prefix)` works; so is the result of `make_cache_key`.
        """
        options = self.options
        if options.make_cache_key:
            return str(options.make_cache_key(*args, **kwargs))
        kind, prefix, source = "value", self.prefix(), self.source()
        query = sorted_query(request) if options.query_string and has_request_context() else None
        if options.make_name:
            kind, prefix = "memoized", options.make_name(self.name)
        elif options.key_prefix == "view/%s":
            prefix = self.name
        elif "%s" in prefix and prefix == options.key_prefix:
            prefix = prefix.replace("%s", request.path)
        elif not args and not kwargs and source is None and query is None:
            return prefix
        arguments = self.signature.arguments((*self._bound, *args), kwargs)
        method = options.hash_method or self.cache.hash_method or hashlib.sha256
        return keys.hashed(kind, (prefix, source, query, arguments), method)

    def memo_tag(self, owner: Any) -> str:
        """Return the tag of all memoized results, or of those of one object's method."""
        one = owner is not None and self.signature.is_method
        of = self.signature.pickled(owner).hex() if one else ""
        return f"memoized {self.name} {of}"

    def prefix(self) -> str:
        """Return the `key_prefix`."""
        prefix = self.options.key_prefix
        return prefix() if callable(prefix) else prefix

    def source(self) -> str | None:
        """Return the function's source if it is part of the key."""
        check = self.cache._get_source_check(self.options.source_check)
        return inspect.getsource(self.function) if check else None

    def skips(self, unless: Callable[..., Any], args: Any, kwargs: Any) -> bool:
        """Tell whether the call goes past the cache, by the option `unless`."""
        return _yes(unless, wants_args, (self.function,), args, kwargs)

    def outdated(
        self, args: Any, kwargs: Any, shown: Callable[[Entry], Any]
    ) -> Callable[[Entry], bool] | None:
        """Return what `forced_update` and `is_stale` say of an entry; None without them.

        `is_stale` is given `shown(entry)`.
        """
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

    def signal(self, hit: bool, key: str, args: Any, kwargs: Any) -> None:
        """Send Flask-Caching's signal; a receiver that raises is logged and does no harm."""
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


def sorted_query(request: Request) -> tuple[tuple[str, str], ...]:
    """Return the query's parameters by name; the values of a repeated one keep their order."""
    return tuple(sorted(request.args.items(multi=True), key=lambda pair: pair[0]))


def _yes(
    asked: Callable[..., Any],
    wants: Callable[..., bool],
    first: tuple[Any, ...],
    args: Any,
    kwargs: Any,
    least: tuple[Any, ...] = (),
) -> bool:
    """Tell whether a callable returns True, given the call if it `wants` that, else the `least`."""
    return (asked(*first, *args, **kwargs) if wants(asked) else asked(*least)) is True


@contextmanager
def _watched(watch: bool) -> Iterator[list[str]]:
    """Note in the list that the block read the session or the cookies of the request."""
    seen: list[str] = []
    context = request_ctx if watch and has_request_context() else None
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
