"""The cache that the app uses: Flask-Caching's, with keys, pages and tags that are safe."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import events, keys
from .cached import Options, decorate
from .engine import SPARE, Engine
from .entry import Computed, Entry, Seconds, Timeout, seconds
from .single_flight import ABOUT, LEASE, new_lease

if TYPE_CHECKING:
    from flask_caching import P, R, _CachedFunction, _MemoizedFunction


def names(given: Iterable[str]) -> tuple[str, ...]:
    """Return names as a tuple; a string, such as the ("posts") of a forgotten comma, is one."""
    return (given,) if isinstance(given, str) else tuple(given)


class Cache(Engine):
    """A `flask_caching.Cache` whose `cached` is safe to write without thought.

    What differs from Flask-Caching stands in the README under "Differences from Flask-Caching".
    """

    # What stock Flask-Caching has, with expiry judged by our clock.

    def get(self, key: str) -> Any:
        """Return the value of `key`, None if there is none."""
        return self.get_many(key)[0]

    def get_many(self, *names: str) -> list[Any]:
        """Return the value of each key, None where there is none."""
        began = time.perf_counter()
        found = self._find(names)[0]
        took = (time.perf_counter() - began) / (len(found) or 1)
        for entry in found:
            events.lookup(events.DIRECT, "miss" if entry is None else "hit", took)
        return [None if entry is None else entry.value for entry in found]

    def get_dict(self, *names: str) -> dict[str, Any]:
        """Return the value of each key by key, None where there is none."""
        return dict(zip(names, self.get_many(*names), strict=True))

    def has(self, key: str) -> bool:
        """Tell whether `key` has a value, None included."""
        return self._find([key])[0][0] is not None

    def set(self, key: str, value: Any, timeout: Seconds | None = None) -> bool:
        """Store `value` for `timeout` seconds; 0 means for ever, None CACHE_DEFAULT_TIMEOUT.

        False if it could not be stored.
        """
        stored = bool(self.cache.set(key, *self._stored(value, timeout)))
        if stored:
            events.put(events.DIRECT, "stored")
        return stored

    def set_many(self, mapping: Mapping[str, Any], timeout: Seconds | None = None) -> list[Any]:
        """Store several values as `set` does; return the keys that were stored."""
        stored = {key: self._stored(value, timeout) for key, value in mapping.items()}
        done: set[str] = set()
        for keep in {keep for _, keep in stored.values()}:
            some = {key: value for key, (value, its) in stored.items() if its == keep}
            done.update(self.cache.set_many(some, keep))
        for _ in done:
            events.put(events.DIRECT, "stored")
        return [key for key in mapping if key in done]

    def add(self, key: str, value: Any, timeout: Seconds | None = None) -> bool:
        """Store `value` unless `key` has one already; True if it was stored. One caller wins."""
        stored, keep = self._stored(value, timeout)
        if self.cache.add(key, stored, keep):
            events.put(events.DIRECT, "stored")
            return True
        # What is there may have expired by our clock. Under a lease nobody else replaces it.
        backend: Any = self.cache
        lease = new_lease("add".ljust(ABOUT))
        if self.has(key) or backend.lease(key, lease, LEASE) is not None:
            return False
        if self.has(key):
            backend.succeed(key, lease, "", 0)
            return False
        if not backend.store(key, stored, keep, lease):
            return False
        events.put(events.DIRECT, "stored")
        return True

    def inc(self, key: str, delta: int = 1) -> int | None:
        """Add `delta` to the integer under `key`, from 0 if there is none, and return the sum.

        None if the backend is out of reach.
        """
        return self.cache.inc(key, delta)

    def dec(self, key: str, delta: int = 1) -> int | None:
        """Subtract `delta` as `inc` adds it."""
        return self.cache.dec(key, delta)

    def delete_many(self, *names: str) -> list[str]:
        """Drop the keys and return them; none if they could not be dropped."""
        return self.cache.delete_many(*names) or []

    def unlink(self, *names: str) -> list[str]:
        """Drop the keys as `delete_many` does."""
        return self.delete_many(*names)

    # The engine: look up, compute once, store.

    def get_or_set(
        self,
        key: str,
        compute: Callable[[], Any],
        timeout: Timeout = None,
        *,
        stale: Seconds = 0,
        tags: Iterable[str] = (),
    ) -> Any:
        """Return the value of `key`; on a miss call `compute`, store what it gives and return it.

        Of several callers that miss at once one computes and the others wait for its value. For
        `stale` seconds after the timeout one caller computes and the others get the old value.
        `timeout` is in seconds, a timedelta or a callable that gives one, asked before computing;
        0 means for ever, None CACHE_DEFAULT_TIMEOUT. None is a value like any other.
        Raises what `compute` raises; nothing is stored then.
        """
        tags = names(tags)
        name = keys.name_of(compute)
        return self.load(name, key, lambda: Computed(compute()), timeout, tags, stale).entry.value

    def invalidate(self, *tags: str) -> bool:
        """Make every entry with one of `tags` a miss, at once, in every process that shares it.

        Also an entry that is still being computed, from data that may be older than this call.
        False if the backend is out of reach: this process then clears the app's entries when it
        answers again, before anything is served from it.
        """
        return self.cache.delete_many(*map(keys.tag_key, tags)) is not None

    def _stored(self, value: Any, timeout: Seconds | None) -> tuple[Any, int]:
        """Return what `set` and `add` give to the backend, and for how many seconds.

        Integers stay bare, so that the backend can count on them.
        """
        expires = self._expires(timeout)
        keep = self._keep(expires)
        if type(value) is int:
            return value, keep and keep - SPARE  # nobody but the backend judges its expiry
        return tuple(Entry(value, self.clock(), expires)), keep

    # The decorator.

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

        The positional parameters are Flask-Caching's; `cache_none` changes nothing, since None is
        a value here. `timeout`, `stale` and `tags` are those of `get_or_set`. For a page, `query`
        names the query parameters that matter (None: all of the query; with `query_string` in any
        order), `vary` the request headers that matter, and `private_key` gives the owner of a
        private page, such as the user's id.
        """
        options = Options(
            timeout=timeout,
            key_prefix=key_prefix,
            unless=unless,
            forced_update=forced_update,
            is_stale=is_stale,
            response_filter=response_filter,
            sort_query=query_string,
            hash_method=hash_method,
            make_cache_key=make_cache_key,
            source_check=source_check,
            hit_header=bool(response_hit_indication),
            query=None if query is None else tuple(sorted(names(query))),
            vary=tuple(sorted(name.lower() for name in names(vary))),
            tags=names(tags),
            stale=seconds(stale),
            private_key=private_key,
        )
        return lambda function: decorate(self, function, options)

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
    ) -> "Callable[[Callable[P, R]], _MemoizedFunction[P, R]]":
        """Decorator: keep a function's result for its arguments, until `delete_memoized`.

        The positional parameters are Flask-Caching's; `timeout`, `stale` and `tags` are those of
        `get_or_set`. Arguments count by their pickles, or by `__caching_id__()` where they have
        it, and for `self` too. On the current request's view it is `cached`, with its rules.
        """
        options = Options(
            timeout=timeout,
            make_name=make_name or str,
            unless=unless,
            forced_update=forced_update,
            is_stale=is_stale,
            response_filter=response_filter,
            hash_method=hash_method,
            source_check=source_check,
            ignore=frozenset(names(args_to_ignore or ())),
            tags=names(tags),
            stale=seconds(stale),
        )
        return lambda function: decorate(self, function, options)

    def delete_cached(self, f: Any, *args: Any, **kwargs: Any) -> bool:
        """Drop what `cached` keeps for a call of the function `f` with these arguments.

        Pages are told apart by more than their path: tag them, and `invalidate` the tag.
        """
        return bool(self.delete(f.make_cache_key(*args, **kwargs)))

    def delete_memoized(self, f: Any, *args: Any, **kwargs: Any) -> bool:  # type: ignore[override]
        """Drop what `memoize` keeps for a call of `f`, or without arguments all of it.

        Reached through an instance, `f` is the method of that instance alone. False if the backend
        is out of reach. Raises TypeError for what is no memoized function.
        """
        if not hasattr(f, "delete_memoized"):
            raise TypeError(f"delete_memoized takes a function that memoize decorates, not {f!r}")
        owner = getattr(f, "__self__", None)
        if not (args or kwargs):
            return self.invalidate(f.memo_tag(None if isinstance(owner, type) else owner))
        if owner is not None and not (args and args[0] is owner):
            args = (owner, *args)
        call = f.make_cache_key(f.uncached, *args, **kwargs)
        return self.cache.delete_many(call, keys.tag_key(call)) is not None

    def delete_memoized_verhash(self, f: Any, *args: Any) -> bool:  # type: ignore[override]
        """Drop all that `memoize` keeps for `f`."""
        return self.delete_memoized(f)
