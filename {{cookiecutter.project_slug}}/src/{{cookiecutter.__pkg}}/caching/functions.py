"""One function under the cache: its key, its tags, its results, and how they are forgotten."""

import asyncio
import functools
import hashlib
import inspect
import logging
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from flask import Request, current_app, has_request_context, request
from flask_caching import signals, utils

from . import advice, events, keys, watch
from .codec import Entry
from .look import Engine, Look, Outdated, Timeout, seconds

logger = logging.getLogger(__name__)


class Function:
    """A decorated function; its attributes are the parameters of `Cache.cached` or `memoize`."""

    # Those of the other decorator; only `memoize` gives a `make_name`, and always.
    make_name = make_cache_key = query = args_to_ignore = None
    given: Any  #: The arguments that a partial or a method always has: positional, by name.
    key_prefix, query_string, response_hit_indication, vary = "view/%s", False, False, ()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, cache: Engine, function: Callable[..., Any], **given: Any) -> None:
        vars(self).update(given)
        self.cache, self.function = cache, function
        self.name = keys.name_of(self.function)
        self.base, *self.given = keys.unwrapped(function)
        self.identity, self.unclear = keys.identity(self.base)
        self.is_async = inspect.iscoroutinefunction(self.base)
        self.grace = seconds(self.stale)
        self.ignored = frozenset(keys.names(self.args_to_ignore or ()))
        self.tag_keys = tuple(map(keys.tag_key, dict.fromkeys(keys.names(self.tags))))
        if self.make_name:
            keys.pickled(self.given, self.name)  # which raises for what cannot be told apart
            self.tag_keys += (keys.tag_key(self.memo_tag(None)),)
        # Whether the key may depend on the request, which the function may then read too.
        prefix = self.key_prefix
        asks = self.private_key or self.make_cache_key or self.query_string or callable(prefix)
        self.asks = bool(asks or (prefix != "view/%s" and "%s" in prefix))

    def call(self, args: Any, kwargs: Any) -> Any:
        """Call the function; an async one gives a coroutine in an event loop, else its result."""
        if self.is_async and in_event_loop():
            return self.function(*args, **kwargs)
        return (current_app or self.cache.app).ensure_sync(self.function)(*args, **kwargs)

    def result(self, timeout: Timeout, args: Any, kwargs: Any) -> Any:
        """Return the function's stored result for these arguments, or compute it.

        For an async function, called in an event loop, return a coroutine.
        """
        # What the key is made of, the function may read too.
        with watch.watching() if self.asks else nullcontext(set[str]()) as in_key:
            owner = self.owner()
            key, bare = self.named_key(args, kwargs, owner)
        if owner is None and self.private_key:
            events.bypass(self.name, "no owner")
            return self.call(args, kwargs)
        tag_keys, given = self.tag_keys, (*self.given[0], *args)
        if self.make_name and self.is_method and given:
            tag_keys += (keys.tag_key(self.memo_tag(given[0])),)
        if self.make_name and owner is not None:
            tag_keys += (keys.tag_key(self.key(args, kwargs)),)
        outdated = self.outdated(args, kwargs, lambda entry: entry.value)
        if self.unclear and not bare:
            advice.warn_once(_UNCLEAR, self.name, self.unclear)
        look = Look(self.cache, self.name, key, timeout, tag_keys, self.grace, outdated, bare=bare)
        compute = functools.partial(self.base, *given, **{**self.given[1], **kwargs})
        tell = functools.partial(self.signal, key=key, args=args, kwargs=kwargs)
        return run(look, compute, tell, self.response_filter, in_key, owner is not None)

    def owner(self) -> Any:
        """Return the owner of the result, as the caller's `private_key` gives it."""
        return self.private_key() if self.private_key else None

    def key(self, args: Any, kwargs: Any, owner: Any = None) -> str:
        """Return the key of the function's result for these arguments and this owner."""
        return self.named_key(args, kwargs, owner)[0]

    def named_key(self, args: Any, kwargs: Any, owner: Any) -> tuple[str, bool]:
        """Return the key, and whether the app named it and may have stored a value there."""
        hash_method = self.hash_method or self.cache.hash_method
        mine = None if owner is None else keys.pickled(owner)
        if self.make_cache_key:
            name = str(self.make_cache_key(*args, **kwargs))
            key = name if mine is None else keys.hashed("value", (name, mine), hash_method)
            return key, mine is None
        kind, name, source = "value", self.name, self.source()
        query = sorted_query(request) if self.query_string and has_request_context() else None
        if self.make_name:
            kind, name = "memoized", self.make_name(name)
        elif self.key_prefix != "view/%s":
            name = self.key_prefix() if callable(self.key_prefix) else self.key_prefix
            if name == self.key_prefix and "%s" in name:
                name = name.replace("%s", request.path)
            elif not any((*self.given, args, kwargs)) and (source, query, mine) == (None,) * 3:
                return name, True  # so that `cache.delete(key_prefix)` works
        identity = self.identity if name == self.name else ""
        parts = (name, identity, mine, source, query, self.arguments(args, kwargs))
        return keys.hashed(kind, parts, hash_method), False

    def arguments(self, args: Any, kwargs: Any) -> bytes:
        """Return a call's arguments alike however they are passed. TypeError if they do not fit."""
        given, more = self.given  # a method's object is an argument like any other
        bound = self.signature.bind(*given, *args, **{**more, **kwargs})
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
        try:
            return inspect.Signature(utils.get_function_parameters(self.base))
        except ValueError:  # a built-in function without one
            return inspect.signature(lambda *args, **kwargs: None)

    @functools.cached_property
    def is_method(self) -> bool:
        """Whether the first parameter is called `self` or `cls`."""
        return next(iter(self.signature.parameters), "") in {"self", "cls"} - self.ignored

    def memo_tag(self, owner: Any) -> str:
        """Return the tag of all memoized results, or of those of one object's method."""
        one = owner is not None and self.is_method
        # Other processes must find the tag.
        name = self.name if self.unclear else f"{self.name} {self.identity}"
        # By its hash, because tags are remembered and it may be large.
        whose = hashlib.blake2s(keys.pickled(owner, self.name)).hexdigest() if one else ""
        return f"memoized {name} {whose}"

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
        """Send Flask-Caching's signal if it is enabled; a receiver's error is only logged."""
        if not self.cache.enable_signals:
            return
        more: dict[str, Any] = {"f": self.function} if self.make_name else {}
        kind = f"{'memoize' if self.make_name else 'view'}_{'hit' if hit else 'miss'}"
        signal = getattr(signals, f"cache_{kind}")
        try:
            signal.send(cache=self.cache, cache_key=key, args=args, kwargs=kwargs, **more)
        except Exception:
            logger.exception("A receiver of %r failed", signal)


_UNCLEAR = (
    "%s uses variables of the function around it that cannot be pickled: %s. Its results are this "
    "process's own, until it ends. Pass plain values as arguments instead."
)
_UNKEPT = "The result of %s is not kept: it %s, or name its owner by private_key."


def run(look: Look, compute: Callable[[], Any], *about: Any) -> Any:
    """Return the value that `look` finds; on a miss call `compute`, and store what may be kept.

    For an async `compute`, called in an event loop, return a coroutine. Raises as `compute` does.
    """
    awaits = in_event_loop() and inspect.iscoroutinefunction(keys.unwrapped(compute)[0])
    return (_run_async if awaits else _run)(look, compute, *about)


def _run(look: Look, compute: Callable[[], Any], tell: Any = bool, *rest: Any) -> Any:
    if not look.hit():
        with look:
            if look.entry is None:
                with _computing(look, *rest) as made:
                    made.append((current_app or look.engine.app).ensure_sync(compute)())
    tell(look.entry is not None)
    return look.value


async def _run_async(look: Look, compute: Callable[[], Any], tell: Any = bool, *rest: Any) -> Any:
    if not look.hit():
        async with look:
            if look.entry is None:
                with _computing(look, *rest) as made:
                    made.append(await compute())
    tell(look.entry is not None)
    return look.value


@contextmanager
def _computing(
    look: Look, keep: Any = None, in_key: Set[str] = frozenset(), owned: bool = False
) -> Iterator[list[Any]]:
    """Watch the block, which computes a value and appends it, and store the value if it may be.

    `keep` may refuse it. The block may read what is `in_key`, and what is private if the value is
    `owned`.
    """
    made = list[Any]()
    with watch.watching() as reads:
        yield made
        value = utils.join_generator(made[0]) if inspect.isgenerator(made[0]) else made[0]
        if inspect.iscoroutine(value):
            value.close()
            raise TypeError(f"{look.name} returns a coroutine: give the async function itself")
    short, reason = advice.unkept(reads - in_key, owned)
    if reason:
        advice.warn_once(_UNKEPT, look.name, reason)
        advice.add_detail(f"{look.name} {reason}")
    else:
        advice.warn_of_session(look.name, value)
    look.store(value, short or ("response_filter" if keep and not keep(value) else None))


def in_event_loop() -> bool:
    """Tell whether the caller runs in an event loop, which must not be blocked."""
    with suppress(RuntimeError):
        return bool(asyncio.get_running_loop())
    return False


def sorted_query(request: Request) -> tuple[tuple[str, str], ...]:
    """Return the query's parameters by name; the values of a repeated one keep their order."""
    return tuple(sorted(request.args.items(multi=True), key=lambda pair: pair[0]))
