"""The cache that the app uses: Flask-Caching's, with keys, pages and tags that are safe."""

import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import flask_caching
from flask import Flask, request_started

from . import keys, page
from .cached import Options, decorate
from .entry import Computed, Entry, Seconds, Timeout, seconds, unpack

if TYPE_CHECKING:
    from flask_caching import P, R, _CachedFunction

#: How long a tag's token lives beyond the entry that it was made for, in seconds.
TOKEN_SPARE = 86400


class Cache(flask_caching.Cache):
    """A `flask_caching.Cache` whose `cached` is safe to write without thought.

    What differs from Flask-Caching stands in the README under "Differences from Flask-Caching".
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: Gives the time that expiry is judged by, in seconds since the epoch; tests move it.
        self.clock: Callable[[], float] = time.time
        super().__init__(*args, **kwargs)

    def init_app(self, app: Flask, config: dict[str, Any] | None = None) -> None:
        """Bind the cache to `app`, as Flask-Caching does.

        Every key begins with CACHE_KEY_PREFIX and CACHE_VERSION; in debug also with a token of
        this process, so that an edited template is not served as it was before the restart.
        """
        merged = {**app.config, **(self.config or {}), **(config or {})}
        parts = [merged.get("CACHE_KEY_PREFIX") or app.name, merged.get("CACHE_VERSION", "1")]
        if app.debug:
            parts.append(secrets.token_hex(4))
        prefix = "".join(f"{part}:" for part in parts)
        app.config.setdefault("CACHE_MAX_PAGE_BYTES", 1_000_000)
        request_started.connect(page.forget_cookies, app)
        super().init_app(app, {**(config or {}), "CACHE_KEY_PREFIX": prefix})

    # What stock Flask-Caching has, with expiry judged by our clock.

    def get(self, key: str) -> Any:
        """Return the value of `key`, None if there is none."""
        return self.get_many(key)[0]

    def get_many(self, *names: str) -> list[Any]:
        """Return the value of each key, None where there is none."""
        return [None if entry is None else entry.value for entry in self._find(names)[0]]

    def get_dict(self, *names: str) -> dict[str, Any]:
        """Return the value of each key by key, None where there is none."""
        return dict(zip(names, self.get_many(*names), strict=True))

    def has(self, key: str) -> bool:
        """Tell whether `key` has a value, None included."""
        return self._find([key])[0][0] is not None

    def set(self, key: str, value: Any, timeout: Seconds | None = None) -> bool:
        """Store `value` for `timeout` seconds; 0 means for ever, None CACHE_DEFAULT_TIMEOUT."""
        return bool(self.cache.set(key, *self._stored(value, timeout)))

    def set_many(self, mapping: Mapping[str, Any], timeout: Seconds | None = None) -> list[Any]:
        """Store several values as `set` does; return the keys that were stored."""
        stored = {key: self._stored(value, timeout)[0] for key, value in mapping.items()}
        return self.cache.set_many(stored, self._stored(None, timeout)[1])

    def add(self, key: str, value: Any, timeout: Seconds | None = None) -> bool:
        """Store `value` unless `key` has one already; True if it was stored. One caller wins."""
        stored, keep = self._stored(value, timeout)
        if self.cache.add(key, stored, keep):
            return True
        if self.has(key):
            return False
        # Expired by our clock, and the backend has yet to collect it.
        self.cache.delete(key)
        return bool(self.cache.add(key, stored, keep))

    def inc(self, key: str, delta: int = 1) -> int | None:
        """Add `delta` to the integer under `key`, from 0 if there is none, and return the sum."""
        return self.cache.inc(key, delta)

    def dec(self, key: str, delta: int = 1) -> int | None:
        """Subtract `delta` as `inc` adds it."""
        return self.cache.dec(key, delta)

    def delete_cached(self, f: Any, *args: Any, **kwargs: Any) -> bool:
        """Drop what `cached` keeps for a call of the function `f` with these arguments.

        Pages are told apart by more than their path: tag them, and `invalidate` the tag.
        """
        return bool(self.delete(f.make_cache_key(*args, **kwargs)))

    # The engine: look up, compute, store.

    def get_or_set(
        self,
        key: str,
        compute: Callable[[], Any],
        timeout: Timeout = None,
        *,
        tags: Iterable[str] = (),
    ) -> Any:
        """Return the value of `key`; on a miss call `compute`, store what it gives and return it.

        `timeout` is in seconds, a timedelta or a callable that gives one, asked before computing;
        0 means for ever, None CACHE_DEFAULT_TIMEOUT. None is a value like any other.
        Raises what `compute` raises; nothing is stored then.
        """
        return self.load(key, lambda: Computed(compute()), timeout, tags)[0].value

    def invalidate(self, *tags: str) -> bool:
        """Make every entry with one of `tags` a miss, at once, in every process that shares it.

        Also an entry that is still being computed, from data that may be older than this call.
        """
        self.cache.delete_many(*map(keys.tag_key, tags))
        return True

    def _expires(self, timeout: Seconds | None) -> float:
        """Return when a value stored now for `timeout` expires; infinity for never."""
        lifetime = seconds(self.cache.default_timeout if timeout is None else timeout)
        return self.clock() + lifetime if lifetime else math.inf

    def _keep(self, expires: float) -> int:
        """Return for how many whole seconds the backend shall keep an entry; 0 for ever."""
        return 0 if expires == math.inf else max(1, math.ceil(expires - self.clock()))

    def _stored(self, value: Any, timeout: Seconds | None) -> tuple[Any, int]:
        """Return what `set` and `add` give to the backend, and for how many seconds.

        Integers stay bare, so that the backend can count on them.
        """
        expires = self._expires(timeout)
        entry = Entry(value, self.clock(), expires)
        return value if type(value) is int else tuple(entry), self._keep(expires)

    def _find(
        self, names: Iterable[str], tags: Iterable[str] = ()
    ) -> tuple[list[Entry | None], dict[str, Entry | None]]:
        """Return the fresh entry of each key, and the token of each tag by the tag's key.

        One command to the backend; another one only for entries with tags that were not named.
        """
        names, tag_keys = list(names), [keys.tag_key(tag) for tag in tags]
        found = self._unpacked(*names, *tag_keys)
        entries = found[: len(names)]
        tokens = dict(zip(tag_keys, found[len(names) :], strict=True))
        others = {t for e in entries if e for t in e.tokens if t not in tokens}
        if others:
            tokens.update(zip(others, self._unpacked(*others), strict=True))

        def valid(entry: Entry | None) -> bool:
            return (
                entry is not None
                and all(tag in entry.tokens for tag in tag_keys)
                and all(
                    (current := tokens[tag]) is not None and current.value == token
                    for tag, token in entry.tokens.items()
                )
            )

        return [entry if valid(entry) else None for entry in entries], tokens

    def _unpacked(self, *names: str) -> list[Entry | None]:
        stored = self.cache.get_many(*names) if len(names) != 1 else [self.cache.get(names[0])]
        now = self.clock()
        return [unpack(one, now) for one in stored]

    def load(
        self,
        key: str,
        compute: Callable[[], Computed],
        timeout: Timeout,
        tags: Iterable[str] = (),
        *,
        outdated: Callable[[Entry], bool] | None = None,
    ) -> tuple[Entry, Computed | None]:
        """Return the entry of `key`, and what was computed for it unless it was a hit.

        `outdated` is asked whether an entry that was found shall be computed anew.
        """
        tags = list(tags)
        (entry,), tokens = self._find([key], tags)
        if entry is not None and not (outdated and outdated(entry)):
            return entry, None
        asked = timeout() if callable(timeout) else timeout
        expires = self._expires(asked)
        # Tokens from before computing: what an invalidation overtakes is stored, and never valid.
        before = {tag: self._token(tag, token, expires) for tag, token in tokens.items()}
        computed = compute()
        now = self.clock()
        if computed.refusal is not None:
            return Entry(computed.value, now), computed
        # A callable timeout, such as "until midnight", speaks of the time it was asked at; one in
        # seconds begins when the value is there.
        if computed.timeout is not None or not callable(timeout):
            expires = self._expires(asked if computed.timeout is None else computed.timeout)
        entry = Entry(computed.value, now, expires, before)
        if now < expires:
            self.cache.set(key, tuple(entry), self._keep(expires))
        return entry, computed

    def _token(self, tag_key: str, current: Entry | None, until: float) -> str:
        """Return the token of a tag, a new one if there is none that lives until `until`.

        A token is random: one made by counting would come back to life after an eviction.
        """
        if current is not None and current.expires >= until:
            return str(current.value)
        token = secrets.token_hex(8)
        made = tuple(Entry(token, self.clock(), until + TOKEN_SPARE))
        keep = self._keep(until + TOKEN_SPARE)
        if current is None and self.cache.add(tag_key, made, keep):
            return token
        (winner,) = self._unpacked(tag_key) if current is None else (None,)
        if winner is not None:
            return str(winner.value)
        self.cache.set(tag_key, made, keep)
        return token

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
        private_key: Callable[[], Any] | None = None,
    ) -> "Callable[[Callable[P, R]], _CachedFunction[P, R]]":
        """Decorator: keep the page of a view, or the result of any other function.

        The positional parameters are Flask-Caching's; `cache_none` changes nothing, since None is
        a value here. `timeout` and `tags` are those of `get_or_set`. For a page, `query` names the
        query parameters that matter (None: all of the query; with `query_string` in any order),
        `vary` the request headers that matter, and `private_key` gives the owner of a private
        page, such as the user's id.
        """
        options = Options(
            timeout=timeout,
            key_prefix=key_prefix,
            unless=unless,
            forced_update=forced_update,
            is_stale=is_stale,
            response_filter=response_filter,
            hash_method=hash_method,
            make_cache_key=make_cache_key,
            source_check=source_check,
            hit_header=bool(response_hit_indication),
            sort_query=query_string,
            query=None if query is None else tuple(sorted(query)),
            vary=tuple(sorted(name.lower() for name in vary)),
            tags=tuple(tags),
            private_key=private_key,
        )
        return lambda function: decorate(self, function, options)
