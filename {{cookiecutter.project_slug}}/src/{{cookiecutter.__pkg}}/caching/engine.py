"""The engine under `get_or_set`, `cached` and `memoize`: look up, one computes, store."""

import hashlib
import math
import secrets
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import flask_caching
from flask import Flask, current_app, request_started

from . import events, keys, page
from .entry import Computed, Entry, Loaded, Seconds, Timeout, seconds, unpack
from .failsafe import FailSafe
from .single_flight import ABOUT, PASS, LocalLeases, SingleFlight, Turn, new_lease

if TYPE_CHECKING:
    from flask_caching.backends import SimpleCache

#: How many seconds the backend keeps an entry beyond the time that we judge it by.
SPARE = 60
#: How long a tag's token lives beyond the entry that it was made for, in seconds.
TOKEN_SPARE = 86400


class Engine(flask_caching.Cache):
    """What `Cache` is built on; the names below are its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: Gives the time that expiry is judged by, in seconds since the epoch; tests move it.
        self.clock: Callable[[], float] = time.time
        self._flights = SingleFlight()
        super().__init__(*args, **kwargs)

    def init_app(self, app: Flask, config: dict[str, Any] | None = None) -> None:
        """Bind the cache to `app`, as Flask-Caching does.

        Every key begins with CACHE_KEY_PREFIX and CACHE_VERSION; in debug also with a token of
        this process, so that an edited template is not served as it was before the restart.
        """
        if not (config is None or isinstance(config, dict)):
            raise ValueError("`config` must be an instance of dict or None")
        merged = {**app.config, **(self.config or {}), **(config or {})}
        parts = [merged.get("CACHE_KEY_PREFIX") or app.name, merged.get("CACHE_VERSION", "1")]
        if app.debug:
            parts.append(secrets.token_hex(4))
        prefix = "".join(f"{part}:" for part in parts)
        app.config["CACHE_MAX_PAGE_BYTES"] = merged.get("CACHE_MAX_PAGE_BYTES", 1_000_000)
        # As safe as Flask-Caching's SHA-256 and much faster where OpenSSL is not needed otherwise.
        app.config.setdefault("CACHE_HASH_METHOD", hashlib.blake2s)
        request_started.connect(page.forget_cookies, app)
        super().init_app(app, {**(config or {}), "CACHE_KEY_PREFIX": prefix})
        backend: Any = app.extensions["cache"][self]
        if not hasattr(backend, "lease"):
            backend = LocalLeases(backend)
        app.extensions["cache"][self] = FailSafe(backend)

    @property
    def cache(self) -> "SimpleCache":
        """The current app's backend, else that of the app that this was made for.

        Looked up at each hit, so not by Flask's `current_app`, which looks it up each time anew.
        """
        try:
            app = current_app._get_current_object()  # type: ignore[attr-defined]
        except RuntimeError:
            app = self.app
        found: SimpleCache = app.extensions["cache"][self]
        return found

    def load(
        self,
        name: str,
        key: str,
        compute: Callable[[], Computed],
        timeout: Timeout,
        tags: Iterable[str] = (),
        stale: Seconds = 0,
        *,
        outdated: Callable[[Entry], bool] | None = None,
        alone: bool = False,
    ) -> Loaded:
        """Return the entry of `key`, found or computed, and which of the two.

        `name` is the cache's, for those who subscribe to events. `outdated` is asked whether an
        entry that was found shall be computed anew. With `alone` nothing is stored and nobody
        waits.
        """
        tags, stale = list(tags), seconds(stale) if stale else 0
        turn: Turn | None = None
        refused: Entry | None = None
        while True:
            began = time.perf_counter()
            (entry,), tokens = self._find([key], tags, stale, bare=False)
            if entry is not None and outdated is not None and outdated(entry):
                refused, entry = entry, None
            if entry is not None and self.clock() < entry.expires:
                events.lookup(name, "hit", time.perf_counter() - began)
                return Loaded(entry, "hit")
            looked = time.perf_counter() - began
            if alone:
                computed, took = _compute(name, compute, looked)
                outcome = computed.refusal or "alone"
                events.load(name, outcome, took)
                return Loaded(Entry(computed.value, self.clock()), outcome)
            asked = timeout() if callable(timeout) else timeout
            expires = self._expires(asked)
            # Tokens from before computing: what an invalidation overtakes is never valid.
            seen = tuple((t, self._token(t, one, expires + stale)) for t, one in tokens.items())
            about = hashlib.blake2s(repr(seen).encode()).hexdigest()[:ABOUT]
            turn = turn or Turn(self._flights, key)
            lease = turn.take(self.cache, about, wait=entry is None)
            if lease is not None:
                break
            if entry is not None:
                events.lookup(name, "stale", looked)
                return Loaded(entry, "stale")

        def finish() -> Loaded:
            computed, took = _compute(name, compute, looked)
            now, until = self.clock(), expires
            # A callable timeout, such as "until midnight", speaks of the time it was asked at; one
            # in seconds begins when the value is there.
            if computed.timeout is not None or not callable(timeout):
                until = self._expires(asked if computed.timeout is None else computed.timeout)
            entry = Entry(computed.value, now, until, seen)
            backend: Any = self.cache
            outcome = computed.refusal or "not stored"
            if computed.refusal is None and now < until:
                keep = self._keep(until + stale)
                if backend.store(key, tuple(entry), keep, lease):
                    outcome = "stored"
            if outcome != "stored":
                backend.succeed(key, lease, new_lease(about, "pass"), PASS)
            events.load(name, outcome, took)
            return Loaded(entry, outcome)

        if not turn.ours:
            return finish()
        with self._flights.computing(self.cache, key, lease):
            # Somebody may have stored it between our look-up and our lease.
            (entry,), _ = self._find([key], tags, bare=False)
            if entry is not None and refused is not None and entry.created == refused.created:
                entry = None  # the one that we asked about already
            if entry is not None and not (outdated is not None and outdated(entry)):
                backend: Any = self.cache
                backend.succeed(key, lease, "", 0)
                events.lookup(name, "hit", looked)
                return Loaded(entry, "hit")
            return finish()

    def _expires(self, timeout: Seconds | None) -> float:
        """Return when a value stored now for `timeout` expires; infinity for never."""
        lifetime = seconds(self.cache.default_timeout if timeout is None else timeout)
        return self.clock() + lifetime if lifetime else math.inf

    def _keep(self, until: float) -> int:
        """Return for how many whole seconds the backend shall keep an entry; 0 for ever.

        Longer than it is fresh, since that is judged by our clock, not by the backend's.
        """
        return 0 if until == math.inf else math.ceil(max(0, until - self.clock())) + SPARE

    def _find(
        self,
        names: Iterable[str],
        tags: Iterable[str] = (),
        stale: float = 0,
        *,
        bare: bool = True,
    ) -> tuple[list[Entry | None], dict[str, Entry | None]]:
        """Return the entry of each key, and the token of each tag by the tag's key.

        One command to the backend; another one only for entries with tags that were not named.
        """
        names, tag_keys = list(names), [keys.tag_key(tag) for tag in tags]
        found = self._unpacked([*names, *tag_keys], stale, bare)
        if len(found) == 1 and (found[0] is None or not found[0].tokens):
            return found, {}  # as most are
        entries = found[: len(names)]
        tokens = dict(zip(tag_keys, found[len(names) :], strict=True))
        others = {tag for e in entries if e for tag, _ in e.tokens if tag not in tokens}
        if others:
            tokens.update(zip(others, self._unpacked([*others]), strict=True))

        def valid(entry: Entry | None) -> bool:
            if entry is None or not (tag_keys or entry.tokens):
                return entry is not None
            seen = dict(entry.tokens)
            return all(tag in seen for tag in tag_keys) and all(
                (current := tokens[tag]) is not None and current.value == token
                for tag, token in entry.tokens
            )

        return [entry if valid(entry) else None for entry in entries], tokens

    def _unpacked(
        self, names: list[str], stale: float = 0, bare: bool = True
    ) -> list[Entry | None]:
        if len(names) == 1:
            return [unpack(self.cache.get(names[0]), self.clock(), stale, bare)]
        stored, now = self.cache.get_many(*names), self.clock()
        return [unpack(one, now, stale, bare) for one in stored]

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
        (winner,) = self._unpacked([tag_key]) if current is None else (None,)
        if winner is not None:
            return str(winner.value)
        self.cache.set(tag_key, made, keep)
        return token


def _compute(name: str, compute: Callable[[], Computed], looked: float) -> tuple[Computed, float]:
    """Compute after a miss that took `looked` seconds; return what it gave and how long it took."""
    events.lookup(name, "miss", looked)
    began = time.perf_counter()
    try:
        computed = compute()
    except BaseException:
        events.load(name, "error", time.perf_counter() - began)
        raise
    return computed, time.perf_counter() - began
