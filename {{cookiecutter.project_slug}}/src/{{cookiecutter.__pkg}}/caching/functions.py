"""One function under the cache: its key, its tags, its results, and how they are forgotten."""

import functools
import inspect
import logging
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from flask import Request, current_app, has_request_context, request
from flask_caching import signals, utils

from . import keys, rules
from .look import Engine, Entry, Look, Outdated, Timeout, seconds

logger = logging.getLogger(__name__)


class Function:
    """A decorated function; its attributes are the parameters of `Cache.cached` or `memoize`."""

    # Those of the other decorator; only `memoize` gives a `make_name`, and always.
    make_name = make_cache_key = private_key = query = args_to_ignore = None
    key_prefix, query_string, response_hit_indication, vary = "view/%s", False, False, ()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, cache: Engine, function: Callable[..., Any], **given: Any) -> None:
        vars(self).update(given)
        self.cache, self.function = cache, function
        self.name = keys.name_of(self.function)
        self.grace = seconds(self.stale)
        self.ignored = frozenset(keys.names(self.args_to_ignore or ()))
        self.tag_keys = tuple(map(keys.tag_key, dict.fromkeys(keys.names(self.tags))))
        if self.make_name:
            self.tag_keys += (keys.tag_key(self.memo_tag(None)),)
        # Otherwise only the arguments are in the key, and the user must not matter.
        self.is_named = bool(self.key_prefix != "view/%s" or self.make_cache_key or self.make_name)

    def call(self, args: Any, kwargs: Any) -> Any:
        """Call the function, which may be async."""
        return (current_app or self.cache.app).ensure_sync(self.function)(*args, **kwargs)

    def result(self, timeout: Timeout, args: Any, kwargs: Any) -> Any:
        """Return the function's stored result for these arguments, or compute it."""
        key, tag_keys = self.key(args, kwargs), self.tag_keys
        if self.make_name and self.is_method and args:
            tag_keys += (keys.tag_key(self.memo_tag(args[0])),)
        outdated = self.outdated(args, kwargs, lambda entry: entry.value)
        with Look(self.cache, self.name, key, timeout, tag_keys, self.grace, outdated) as look:
            if look.entry is not None:
                value = look.entry.value
            else:
                watch = not self.is_named and has_request_context() and hasattr(request, "reads")
                context: Any = rules.current_context() if watch else None
                with rules.computing(context) if watch else nullcontext(set[str]()) as reads:
                    value = self.call(args, kwargs)
                    if inspect.isgenerator(value):
                        value = utils.join_generator(value)
                read = " ".join(sorted(reads, reverse=True)).lower()
                refusal = next((kind for kind in ("session", "cookie") if kind in read), None)
                if not refusal and self.response_filter and not self.response_filter(value):
                    refusal = "response_filter"
                look.store(value, refusal)
        if self.cache.enable_signals:
            self.signal(look.entry is not None, key, args, kwargs)
        return value

    def key(self, args: Any, kwargs: Any) -> str:
        """Return the key of the function's result for these arguments."""
        if self.make_cache_key:
            return str(self.make_cache_key(*args, **kwargs))
        kind, source = "value", self.source()
        prefix = self.key_prefix() if callable(self.key_prefix) else self.key_prefix
        query = sorted_query(request) if self.query_string and has_request_context() else None
        if self.make_name:
            kind, prefix = "memoized", self.make_name(self.name)
        elif self.key_prefix == "view/%s":
            prefix = self.name
        elif "%s" in prefix and prefix == self.key_prefix:
            prefix = prefix.replace("%s", request.path)
        elif not args and not kwargs and source is None and query is None:
            return prefix  # so that `cache.delete(key_prefix)` works
        parts = (prefix, source, query, self.arguments(args, kwargs))
        return keys.hashed(kind, parts, self.hash_method or self.cache.hash_method)

    def arguments(self, args: Any, kwargs: Any) -> bytes:
        """Return the arguments of a call: alike however they are passed, defaults included.

        Raises TypeError for a call that does not fit and arguments that cannot be pickled.
        """
        if inspect.ismethod(self.function):  # its object is an argument like any other
            args = (self.function.__self__, *args)
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        values = dict(bound.arguments)
        for name, parameter in self.signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                values |= {f"**{key}": value for key, value in sorted(values.pop(name).items())}
        for name in self.ignored:
            values.pop(name, values.pop(f"**{name}", None))
        return keys.pickled(values, self.name)

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """The function's parameters, even with annotations that only type checkers know."""
        function = getattr(self.function, "__func__", self.function)
        return inspect.Signature(utils.get_function_parameters(function))

    @functools.cached_property
    def is_method(self) -> bool:
        """Whether the first parameter is called `self` or `cls`."""
        return next(iter(self.signature.parameters), "") in {"self", "cls"} - self.ignored

    def memo_tag(self, owner: Any) -> str:
        """Return the tag of all memoized results, or of those of one object's method."""
        one = owner is not None and self.is_method
        return f"memoized {self.name} {keys.pickled(owner, self.name).hex() if one else ''}"

    def source(self) -> str | None:
        """Return the function's source if it is part of the key."""
        check = self.cache._get_source_check(self.source_check)
        return inspect.getsource(self.function) if check else None

    def outdated(self, args: Any, kwargs: Any, shown: Callable[[Entry], Any]) -> Outdated:
        """Return a check by `forced_update` and by `is_stale`, which is given `shown(entry)`."""
        forced, is_stale = self.forced_update, self.is_stale
        if forced and (forced(*args, **kwargs) if utils.wants_args(forced) else forced()) is True:
            return lambda entry: True
        if is_stale is None:
            return None
        if not utils.wants_extra_args(is_stale):
            args, kwargs = (), {}
        return lambda entry: is_stale(shown(entry), *args, **kwargs) is True

    def signal(self, hit: bool, key: str, args: Any, kwargs: Any) -> None:
        """Send Flask-Caching's signal; a receiver that raises is logged and does no harm."""
        more: dict[str, Any] = {"f": self.function} if self.make_name else {}
        kind = f"{'memoize' if self.make_name else 'view'}_{'hit' if hit else 'miss'}"
        signal = getattr(signals, f"cache_{kind}")
        try:
            signal.send(cache=self.cache, cache_key=key, args=args, kwargs=kwargs, **more)
        except Exception:
            logger.exception("A receiver of %r failed", signal)


def sorted_query(request: Request) -> tuple[tuple[str, str], ...]:
    """Return the query's parameters by name; the values of a repeated one keep their order."""
    return tuple(sorted(request.args.items(multi=True), key=lambda pair: pair[0]))
