"""One look-up, from top to bottom: a hit, or a wait, or compute and store."""

import hashlib
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import flask_caching
from flask import current_app

from . import events, leases
from .codec import Codec

Names = tuple[str, ...]
Seconds = float | timedelta
Timeout = Seconds | Callable[[], Seconds] | None

#: A caller waits at most this many seconds, then it computes the value itself.
WAIT = 30.0
#: A caller waits for at most this many computations that store no value, so that no queue forms.
PATIENCE = 2
#: The backend keeps an entry this many seconds longer than it is fresh, which our clock decides.
SPARE = 60
#: The token of a tag lives this many seconds longer than the entry that it was made for.
TOKEN_SPARE = 86400


class Entry(NamedTuple):
    """A stored value with its times, in seconds since the epoch, and the tokens of its tags."""

    value: Any
    created: float
    #: When it stops being fresh; infinity for never.
    expires: float = math.inf
    #: The key and the token of each of its tags, as they were before the value was computed.
    tokens: tuple[tuple[str, str], ...] = ()


Outdated = Callable[[Entry], bool] | None


def seconds(timeout: Seconds) -> float:
    """Return `timeout` in seconds; 0 means that the entry never expires.

    Raises TypeError unless it is a number or a timedelta, ValueError if negative, NaN or infinite.
    """
    value = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"a timeout is in seconds, such as 300, or a timedelta, not {timeout!r}")
    if not 0 <= value < math.inf:
        raise ValueError(f"a timeout is 0 (never expires) or more, such as 300, not {timeout!r}")
    return value


class Engine(flask_caching.Cache):
    """The part of `Cache` that looks up and stores."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: Gives the time that decides expiry, in seconds since the epoch; tests move it.
        self.clock: Callable[[], float] = time.time
        self.computations = leases.Computations()
        super().__init__(*args, **kwargs)

    @property
    def cache(self) -> Codec:  # type: ignore[override]
        """The current app's backend, else that of the app that this was made for."""
        try:
            # Flask's `current_app` would look the app up for each attribute.
            app = current_app._get_current_object()  # type: ignore[attr-defined]
        except RuntimeError:
            app = self.app
        return app.extensions["cache"][self]  # type: ignore[no-any-return]

    def find(
        self, backend: Codec, names: Names, tags: Names = (), stale: float = 0, bare: bool = True
    ) -> dict[str, Entry | None]:
        """Return the valid entry of each key of `names`, and the token of each key of `tags`.

        An entry is valid while the tokens of its tags are those it was stored with. One command to
        the backend; a second one only for entries with further tags. With `bare`, a value that is
        stored without its times, such as an integer to count on, is an entry as well.
        """
        keys = names + tags
        stored = backend.get_many(*keys) if len(keys) > 1 else map(backend.get, keys)
        found: dict[str, Entry | None] = {}
        now, further = self.clock(), set(tags)
        for key, one in zip(keys, stored, strict=True):
            entry = Entry(one, now) if bare and one is not None else None
            if type(one) is tuple:  # of another length if another release stored it
                fits = len(one) == len(Entry._fields) and now < one[2] + stale
                entry = Entry(*one) if fits else None
            found[key] = entry
            further.update(dict(entry.tokens) if entry else ())
        further -= found.keys()
        if further:
            found |= self.find(backend, tuple(further))
        for name in names:
            seen = dict(entry.tokens) if (entry := found[name]) else {}
            for tag in {*tags, *seen}:
                token = found[tag]
                if token is None or token.value != seen.get(tag):
                    found[name] = None
        return found

    def tokens(
        self, backend: Codec, found: dict[str, Entry | None], tags: Names, until: float
    ) -> tuple[tuple[str, str], ...]:
        """Return the key of each tag with its token, made anew unless it lives until `until`.

        `found` is the result of `find`. Call it before computing, so that data invalidated
        meanwhile is stored with a token that is not valid any more. Tokens are random: one made by
        counting would come back to life after an eviction.
        """
        tokens = list[tuple[str, str]]()
        for tag in tags:
            token, made = found[tag], Entry(secrets.token_hex(8), self.clock(), until + TOKEN_SPARE)
            if token is None:
                added = backend.add(tag, tuple(made), self.lifetime(made.expires))
                # Or another caller was first.
                token = made if added else self.find(backend, (tag,), bare=False)[tag]
            if token is None or token.expires < until:
                backend.set(tag, tuple(made), self.lifetime(made.expires))
                token = made
            tokens.append((tag, str(token.value)))
        return tuple(tokens)

    def expiry(self, timeout: Seconds | None) -> float:
        """Return when a value that is stored now expires; infinity for never."""
        lifetime = seconds(self.cache.default_timeout if timeout is None else timeout)
        return self.clock() + lifetime if lifetime else math.inf

    def lifetime(self, until: float) -> int:
        """Return for how many whole seconds the backend keeps an entry; 0 for ever."""
        return 0 if until == math.inf else math.ceil(max(0, until - self.clock())) + SPARE


@dataclass(eq=False)
class Look:
    """One look-up of one key, a context manager.

    with Look(cache, "name", "key", timeout=60) as look:
        value = look.store(compute()) if look.entry is None else look.entry.value
    """

    engine: Engine
    #: The cache's name, for events.
    name: str
    key: str
    timeout: Timeout
    #: The keys of the entry's tags.
    tag_keys: Names = ()
    #: For how many seconds after the timeout the old value is served while one caller computes.
    stale: float = 0
    #: Tells whether an entry that was found must be computed anew.
    outdated: Outdated = None
    #: Tells whether to compute without waiting for anyone, and store nothing.
    alone: Callable[[], bool] = bool
    #: The value is fresh for at most so many seconds.
    fresh: float = math.inf
    #: Nobody waits for a while if the value is not stored.
    mark: bool = True

    def __enter__(self) -> "Look":
        """Look up; on a miss get the lease, or wait for the caller that has it.

        Without an entry the caller must compute: if we have the lease, if the last result was not
        stored (a "pass" lease), or if we have waited long enough. We do not wait if one is stale.
        """
        #: The entry that was found. None: compute the value and call `store`.
        self.entry: Entry | None = None
        #: "hit", "stale", "miss", "stored", or why the computed value was not stored.
        self.outcome = "miss"
        # The lease to store under, "" for none. Another caller's, if we do not wait for it.
        self.lease, self.is_ours = "", False
        engine = self.engine
        backend = self.backend = engine.cache
        rejected, seen, pause, give_up = None, set[str](), 0.005, time.monotonic() + WAIT
        try:
            while True:
                began = time.perf_counter()
                found = engine.find(backend, (self.key,), self.tag_keys, self.stale, False)
                entry, check = found[self.key], self.outdated
                if entry and check and (entry.created == rejected or check(entry)):
                    rejected, entry = entry.created, None
                looked = time.perf_counter() - began
                if entry is not None and engine.clock() < entry.expires:
                    self.entry, self.outcome = entry, "hit"
                    if self.is_ours:  # another caller stored it between our look-up and our lease
                        self._end()
                    break
                if self.is_ours or self.alone():
                    break
                self.asked = self.timeout() if callable(self.timeout) else self.timeout
                self.expires = engine.expiry(self.asked)
                until = self.expires + self.stale
                self.tokens = engine.tokens(backend, found, self.tag_keys, until)
                about = hashlib.blake2s(repr(self.tokens).encode()).hexdigest()
                self.lease, self.is_ours = engine.computations.take(backend, self.key, about)
                if self.is_ours:
                    continue
                seen.add(self.lease)
                left = give_up - time.monotonic()
                if ":pass:" in self.lease or len(seen) > PATIENCE or left <= 0:
                    break
                if entry is not None:
                    self.entry, self.outcome = entry, "stale"
                    break
                pause = min(2 * pause, 0.1)
                engine.computations.wait_for(self.lease, left, pause)
        except BaseException:
            self._end()
            raise
        events.lookup(self.name, self.outcome, looked)
        self.began = time.perf_counter()
        return self

    def store(self, value: Any, refusal: str | None = None, timeout: Seconds | None = None) -> Any:
        """Store the computed value, unless `refusal` says why it must not be; return it.

        `timeout` replaces the one of the look-up.
        """
        took = time.perf_counter() - self.began
        engine, now = self.engine, self.engine.clock()
        outcome = refusal or "not stored"
        if self.lease and refusal is None:
            until = self.expires
            # A callable timeout, such as "until midnight", counts from when it was asked; seconds
            # count from when the value is there.
            if timeout is not None or not callable(self.timeout):
                until = engine.expiry(self.asked if timeout is None else timeout)
            until = min(until, now + self.fresh)
            entry = tuple(Entry(value, now, until, self.tokens))
            lifetime = engine.lifetime(until + self.stale)
            if now < until and self.backend.store(self.key, entry, lifetime, self.lease):
                outcome = "stored"
        if self.lease and outcome != "stored":
            successor = leases.new(self.lease, "pass") if self.mark else leases.ENDED
            self.backend.replace(self.key, self.lease, successor, leases.PASS)
        self.outcome = outcome
        events.load(self.name, outcome, took)
        return value

    def __exit__(self, *_: object) -> None:
        """End the computation, if there was one."""
        if self.outcome == "miss":
            events.load(self.name, "error", time.perf_counter() - self.began)
        self._end()

    def _end(self) -> None:
        if self.is_ours:
            self.is_ours = False
            if self.outcome in ("miss", "hit"):
                self.backend.replace(self.key, self.lease, leases.ENDED, leases.PASS)
            self.engine.computations.end(self.lease)
