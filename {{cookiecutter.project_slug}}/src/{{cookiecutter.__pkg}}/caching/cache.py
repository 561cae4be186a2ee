"""The cache that the app calls: Flask-Caching's, with keys, pages and tags that are safe."""

import functools
import hashlib
import operator
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import flask_caching
from flask import Flask

from . import events, functions, keys, leases, pages
from .codec import Codec, Entry
from .look import Engine, Look, Seconds, Timeout, seconds
from .visitor import PRIVATE_HEADERS, USER_NAMES

if TYPE_CHECKING:
    from flask_caching import P, R, _CachedFunction, _MemoizedFunction


class Cache(Engine):
    """A safer `flask_caching.Cache`, whose clock decides expiry; `docs/caching.md` says more."""

    def init_app(self, app: Flask, config: dict[str, Any] | None = None) -> None:
        """Bind the cache to `app`, as Flask-Caching does. ValueError if a SECRET_KEY is missing."""
        if not (config is None or isinstance(config, dict)):
            raise ValueError("`config` must be an instance of dict or None")
        merged = {**app.config, **(self.config or {}), **(config or {})}
        prefix = f"{merged.get('CACHE_KEY_PREFIX') or app.name}:{merged.get('CACHE_VERSION', '1')}:"
        if app.debug:  # the pages of an edited template must not outlive a restart
            prefix += f"{secrets.token_hex(4)}:"
        app.config["CACHE_MAX_PAGE_BYTES"] = merged.get("CACHE_MAX_PAGE_BYTES", 1_000_000)
        # As safe as Flask-Caching's SHA-256, and much faster as long as the app needs no OpenSSL.
        app.config.setdefault("CACHE_HASH_METHOD", hashlib.blake2s)
        names = merged.get("CACHE_PRIVATE_HEADERS") or PRIVATE_HEADERS
        users = merged.get("CACHE_USER_NAMES") or USER_NAMES
        app.request_class = pages.watched(app.request_class, keys.names(names), keys.names(users))
        super().init_app(app, {**(config or {}), "CACHE_KEY_PREFIX": prefix})
        backend: Any = app.extensions["cache"][self]
        signing: list[str] = []
        if getattr(backend, "shared", True):
            kinds = {kind.__name__ for kind in type(backend).__mro__}  # cachelib's count, too
            in_process = not kinds.isdisjoint(("SimpleCache", "NullCache"))
            secret = merged.get("SECRET_KEY") or (in_process and secrets.token_hex())
            if not secret:
                raise ValueError("SECRET_KEY is missing, and cached values are signed with it")
            signing = [secret, *(merged.get("SECRET_KEY_FALLBACKS") or [])]
        backend = backend if hasattr(backend, "lease") else leases.Adapter(backend)
        app.extensions["cache"][self] = Codec(backend, prefix, signing, self.serializer is not None)

    def get(self, key: str) -> Any:
        """Return the value of `key`, None on a miss."""
        return self.get_many(key)[0]

    def get_many(self, *names: str) -> list[Any]:
        """Return the value of each key, None where there is none."""
        began = time.perf_counter()
        found = self.find(names)
        took = (time.perf_counter() - began) / (len(names) or 1)
        for name in names:
            events.lookup(events.DIRECT, "hit" if found[name] else "miss", took)
        return [entry and entry.value for entry in map(found.get, names)]

    def has(self, key: str) -> bool:
        """Tell whether `key` has a value, None included."""
        return self.find((key,))[key] is not None

    def set(self, key: str, value: Any, timeout: Seconds | None = None) -> bool:
        """Store `value` for `timeout` seconds; 0 means for ever, None CACHE_DEFAULT_TIMEOUT."""
        stored: bool = self.cache.set(key, *self._entry(value, timeout))
        if stored:
            events.put(events.DIRECT, "stored")
        return stored

    def set_many(self, mapping: Mapping[str, Any], timeout: Seconds | None = None) -> list[Any]:
        """Store several values as `set` does; return the keys that were stored."""
        entries = {key: self._entry(value, timeout) for key, value in mapping.items()}
        done: set[str] = set()
        for lifetime in {lifetime for _, lifetime in entries.values()}:
            some = {key: entry for key, (entry, its) in entries.items() if its == lifetime}
            done.update(self.cache.set_many(some, lifetime))
        for _ in done:
            events.put(events.DIRECT, "stored")
        return [key for key in mapping if key in done]

    def add(self, key: str, value: Any, timeout: Seconds | None = None) -> bool:
        """Store `value` unless `key` has one already; True if it was stored. One caller wins."""
        added: bool = self.cache.add(key, *self._entry(value, timeout))
        if not added:  # the value there may have expired by our clock
            entry = Entry(value, self.clock(), self.expiry(timeout))
            added = self.change(key, lambda now: None if now else entry) is not None
        if added:
            events.put(events.DIRECT, "stored")
        return added

    def inc(self, key: str, delta: int = 1) -> int | None:
        """Add `delta` to the integer under `key`, or to 0; return the sum, None if that fails.

        Raises TypeError for another value or delta, and OverflowError beyond 64 bits.
        """
        delta = int(operator.index(delta))  # a bool is an integer, a float is not
        longer = OverflowError(f"{key!r} cannot count beyond 64 bits")
        if not -(2**63) <= delta < 2**63:
            raise longer

        def counted(now: Entry | None) -> Entry:
            # A value with times, such as one of `get_or_set`, or one that has expired.
            entry = now or Entry(0, self.clock(), self.expiry(None))
            if type(entry.value) is not int:
                raise TypeError(f"{key!r} holds no integer to count on")
            if not -(2**63) <= entry.value + delta < 2**63:
                raise longer
            return entry._replace(value=entry.value + delta)

        for _ in range(4):  # a caller that misses meanwhile takes the lease, or drops it
            if (total := self.cache.inc(key, delta)) is not None:
                return int(total)
            if changed := self.change(key, counted):
                return int(changed.value)
        return None

    # By `inc`, `get_many` and `delete_many`.
    dec, get_dict = Codec.dec, Codec.get_dict
    unlink = flask_caching.Cache.delete_many

    def get_or_set(
        self,
        key: str,
        compute: Callable[[], Any],
        timeout: Timeout = None,
        *,
        stale: Seconds = 0,
        tags: Iterable[str] = (),
    ) -> Any:
        """Return the value of `key`; on a miss call `compute`, store its result and return it.

        Of several callers that miss at once one computes and the others wait for its value. For
        `stale` seconds after the timeout one caller computes and the others get the old value.
        `timeout` is in seconds, a timedelta or a callable that gives one, asked before computing;
        0 means for ever, None CACHE_DEFAULT_TIMEOUT. None is a value. Raises as `compute` does.
        """
        tag_keys = tuple(map(keys.tag_key, dict.fromkeys(keys.names(tags))))
        look = Look(self, keys.name_of(compute), key, timeout, tag_keys, seconds(stale), bare=True)
        return functions.run(look, compute)

    def invalidate(self, *tags: str) -> bool:
        """Make every entry with one of `tags` a miss, at once, in every process that shares it.

        Entries that are still being computed are included. False if the backend is unavailable:
        this process then clears the app's entries before it uses the backend again.
        """
        tag_keys = [*map(keys.tag_key, tags)]
        return bool(self.cache.delete_many(*tag_keys) == tag_keys)

    def _entry(self, value: Any, timeout: Seconds | None) -> tuple[Any, int]:
        """Return the entry that `set` and `add` store, and its lifetime in seconds."""
        lasts = seconds(self.cache.default_timeout if timeout is None else timeout)
        if type(value) is int and -(2**63) <= value < 2**63 and lasts == int(lasts):
            return value, int(lasts)  # bare, to count on: only the backend judges its expiry
        expires = self.expiry(lasts)
        return Entry(value, self.clock(), expires), self.lifetime(expires)

    def cached(
        self,
        timeout: Timeout = None,
        key_prefix: str | Callable[[], str] = "view/%s",
        unless: Callable[..., Any] | None = None,
        forced_update: Callable[..., Any] | None = None,
        is_stale: Callable[..., Any] | None = None,
        response_filter: Callable[..., Any] | None = None,
        query_string: bool = False,
        hash_method: Callable[..., Any] | None = None,
        cache_none: bool = False,
        make_cache_key: Callable[..., Any] | None = None,
        source_check: bool | None = None,
        response_hit_indication: bool | None = False,
        *,
        query: Iterable[str] | None = None,
        vary: Iterable[str] = (),
        tags: Iterable[str] = (),
        stale: Seconds = 0,
        private_key: Callable[[], Any] | None = None,
    ) -> "Callable[[Callable[P, R]], _CachedFunction[P, R]]":
        """Decorator: keep the page of a view, or the result of any other function.

        The positional parameters are Flask-Caching's; `cache_none` changes nothing. `timeout`,
        `stale` and `tags` are those of `get_or_set`. `query` names the query parameters that a page
        depends on (None: all; with `query_string` in any order), `vary` the request headers, and
        `private_key` gives the owner of a private page, such as the user's id.
        """
        return functools.partial(pages.decorate, locals())

    def memoize(
        self,
        timeout: Timeout = None,
        make_name: Callable[..., str] | None = None,
        unless: Callable[..., bool] | None = None,
        forced_update: Callable[..., bool] | None = None,
        is_stale: Callable[..., bool] | None = None,
        response_filter: Callable[..., Any] | None = None,
        hash_method: Callable[..., Any] | None = None,
        cache_none: bool = False,
        source_check: bool | None = None,
        args_to_ignore: Iterable[str] | None = None,
        *,
        tags: Iterable[str] = (),
        stale: Seconds = 0,
        private_key: Callable[[], Any] | None = None,
    ) -> "Callable[[Callable[P, R]], _MemoizedFunction[P, R]]":
        """Decorator: keep a function's result for its arguments, until `delete_memoized`.

        The parameters are those of Flask-Caching and `cached`. Arguments, `self` included,
        count by their pickles, or `__caching_id__()`. On the current request's view it is `cached`.
        """
        make_name = make_name or str
        return functools.partial(pages.decorate, locals())

    def delete_cached(self, f: Any, *args: Any, **kwargs: Any) -> bool:
        """Drop the result that `cached` keeps for a call of `f`; of a page, `invalidate` a tag."""
        return bool(self.delete(f.make_cache_key(*args, **kwargs)))

    def delete_memoized(self, f: Any, *args: Any, **kwargs: Any) -> bool:  # type: ignore[override]
        """Drop the result that `memoize` keeps for a call of `f`, or all of them without arguments.

        `one.f` is that of `one` alone. False if the backend is unavailable. TypeError unless
        `memoize` decorates `f`.
        """
        if not hasattr(f, "delete_memoized"):
            raise TypeError(f"delete_memoized takes a function that memoize decorates, not {f!r}")
        owner = getattr(f, "__self__", None)
        if not (args or kwargs) or not f.is_shared:  # other processes have keys of their own
            return self.invalidate(f.memo_tag(None if isinstance(owner, type) else owner))
        if owner is not None and not (args and args[0] is owner):
            args = (owner, *args)
        call = f.make_cache_key(f.uncached, *args, **kwargs)
        return bool(self.cache.delete_many(call, keys.tag_key(call)))

    def delete_memoized_verhash(self, f: Any, *args: Any) -> bool:  # type: ignore[override]
        """Drop all results that `memoize` keeps for `f`."""
        return self.delete_memoized(f)
