"""One look-up, from top to bottom: a hit, or a wait, or compute and store."""

import asyncio
import functools
import hashlib
import math
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from operator import methodcaller
from typing import Any

import flask_caching
from flask import current_app

from . import events, leases
from .codec import Codec, Entry

Seconds = float | timedelta
Timeout = Seconds | Callable[[], Seconds] | None
Names = tuple[str, ...]
Found = dict[str, Entry | None]
Outdated = Callable[[Entry], bool] | None

PATIENCE = 2  # a caller waits for so many computations that store nothing, so that no queue forms
SPARE = 60  # seconds that the backend keeps an entry after it is fresh, which our clock decides
SKEW = 1  # seconds that another machine's clock may be ahead; later entries have a wrong time
TOKEN_SPARE = 86400  # seconds that the token of a tag outlives the entry that it was made for


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

    #: Decides expiry, in seconds since the epoch: `time.time`, as it is when it is called.
    clock: Callable[[], float] = staticmethod(functools.partial(methodcaller("time"), time))
    computations = leases.Computations()  #: Those of all caches of this process.

    @property
    def cache(self) -> Codec:  # type: ignore[override]
        """The current app's backend, else that of the app that this was made for."""
        try:  # by `current_app` itself the app would be looked up for each attribute
            app = current_app._get_current_object()  # type: ignore[attr-defined]
        except RuntimeError:
            app = self.app
        return app.extensions["cache"][self]  # type: ignore[no-any-return]

    def find(self, names: Names, tags: Names = (), stale: float = 0, bare: bool = True) -> Found:
        """Return the valid entry of each key of `names`, and the token of each key of `tags`.

        It is valid while the tokens of its tags are those it was stored with. With `bare`, so is a
        value without times, such as an integer. A second command only asks for entries' other tags.
        """
        backend, keys, found = self.cache, names + tags, Found()
        stored = backend.get_many(*keys) if len(keys) > 1 else map(backend.get, keys)
        now, further = self.clock(), tuple[tuple[str, str], ...]()
        for key, one in zip(keys, stored):  # noqa: B905 - `strict` takes twice the time
            if type(one) is not Entry:
                one = Entry(one, now) if bare and one is not None else None
            elif not one.created - SKEW < now < one.expires + stale:
                one = None
            found[key] = one
            further += one.tokens if one else ()
        if further and (others := dict(further).keys() - found.keys()):
            found |= self.find(tuple(others))
        for name in names:
            if entry := found[name]:
                missing = len(tags)
                for tag, token in entry.tokens:
                    missing -= tag in tags
                    if not (known := found[tag]) or known.value != token:
                        missing = len(keys)
                if missing:
                    found[name] = None
        return found

    def tokens(self, found: Found, tags: Names, until: float) -> tuple[tuple[str, str], ...]:
        """Return the key of each tag with its token, made anew unless it lives until `until`.

        `found` is the result of `find`, from before computing: data invalidated meanwhile is stored
        with a token that is not valid any more. A count would be valid again after an eviction.
        """
        tokens, expires = list[tuple[str, str]](), until + TOKEN_SPARE

        def longer(now: Entry | None) -> Entry:
            return (now or made)._replace(expires=max(expires, now.expires if now else 0))

        for tag in tags:
            token, made = found[tag], Entry(secrets.token_hex(8), self.clock(), expires)
            if token is None:
                added = self.cache.add(tag, made, self.lifetime(expires))
                token = made if added else self.find((tag,))[tag]  # another caller was first
            if token is None or token.expires < until:  # older entries have it: it must live longer
                token = self.change(tag, longer) or made
            tokens.append((tag, str(token.value)))
        return tuple(tokens)

    def change(self, key: str, new: Callable[[Entry | None], Entry | None]) -> Entry | None:
        """Replace the valid entry of `key` by `new(entry)`, one caller at a time; return that.

        None if `new` gives None, or if nothing was stored, such as after a drop meanwhile.
        """
        if not new(self.find((key,))[key]):  # or it raises, before a lease is taken
            return None
        backend, lease, tries = self.cache, leases.new("change".ljust(leases.ABOUT)), 2000
        while (other := backend.lease(key, lease, leases.LEASE)) and (tries := tries - 1):
            time.sleep(0.001)  # which another caller may take
        try:
            entry = None if other else new(self.find((key,))[key])
            lifetime = entry and self.lifetime(entry.expires + TOKEN_SPARE)
            return entry if entry and backend.store(key, entry, lifetime, lease) else None
        finally:
            backend.replace(key, lease, leases.ENDED, leases.PASS)

    def expiry(self, timeout: Seconds | None) -> float:
        """Return when a value that is stored now expires; infinity for never."""
        lifetime = seconds(self.cache.default_timeout if timeout is None else timeout)
        return self.clock() + lifetime if lifetime else math.inf

    def lifetime(self, until: float) -> int:
        """Return for how many whole seconds the backend keeps an entry; 0 for ever."""
        return 0 if until == math.inf else math.ceil(max(0, until - self.clock())) + SPARE


@dataclass(eq=False)
class Look:
    """One look-up of one key, a context manager: `Cache.get_or_set` shows its use."""

    engine: Engine
    name: str  #: The cache's name, for events.
    key: str
    timeout: Timeout
    tag_keys: Names = ()  #: The keys of the entry's tags.
    stale: float = 0  #: Seconds after the timeout: one caller computes, others get the old value.
    outdated: Outdated = None  #: Tells whether an entry that was found must be computed anew.
    fresh: float = math.inf  #: The value is fresh for at most so many seconds.
    mark: bool = True  #: Nobody waits for a while if the value is not stored.
    bare: bool = False  #: The app named the key: a value there without times is the app's own.
    blocks: bool = True  #: A wait may block this thread.

    alone = False  #: Compute at once, and store nothing.
    private: Any = ()
    value = entry = None  #: The value that was found or computed; the valid entry, None: compute.
    outcome = ""  #: At last "hit", "stale", "miss", "stored", or why it was not stored.
    lease, is_ours = "", False  # "": store nothing; others' if we do not wait for it
    _rejected, _context = 0.0, None

    def fits(self, entry: Entry) -> bool:
        """Tell whether an entry that was found need not be computed anew."""
        return not (self.outdated and self.outdated(entry))

    def is_private(self) -> bool:
        """Tell whether the value will be this caller's own; asked if there is any in `private`."""
        return False

    def hit(self) -> bool:
        """Look up, and tell whether that is a hit. If not, the look is to be entered, by `with`."""
        began, engine = time.perf_counter(), self.engine
        self._found = engine.find((self.key,), self.tag_keys, self.stale, self.bare)
        entry = self._found[self.key]
        if entry and (entry.created == self._rejected or not self.fits(entry)):
            self._rejected, entry = entry.created, None
        self._took, self._old = time.perf_counter() - began, entry
        if entry is None or engine.clock() >= entry.expires:
            return False
        self.entry, self.outcome, self.value = entry, "hit", entry.value
        events.lookup(self.name, "hit", self._took)
        return True

    def __enter__(self) -> "Look":
        """Get the lease, or wait for the caller that has it."""
        for pause in self._wait():
            self.engine.computations.rest(self.lease, pause)
        return self

    async def __aenter__(self) -> "Look":
        """Get the lease as `with` does, but leave the event loop to others while waiting."""
        self.blocks = False
        for pause in self._wait():
            await asyncio.sleep(pause)
        return self

    def _wait(self) -> Iterator[float]:
        """Yield how many seconds to wait until the next look, if there is no value and no lease."""
        engine, computations, seen = self.engine, self.engine.computations, set[str]()
        try:
            self.backend = engine.cache
            # While the backend is unavailable nothing could be stored.
            while not (self.alone or self.backend.is_open or (self.private and self.is_private())):
                self.asked = self.timeout() if callable(self.timeout) else self.timeout
                self.expires = engine.expiry(self.asked)
                until = self.expires + self.stale
                self.tokens = engine.tokens(self._found, self.tag_keys, until)
                about = hashlib.blake2s(repr(self.tokens).encode()).hexdigest()
                self.lease, self.is_ours = computations.take(self.backend, self.key, about)
                if self.is_ours:
                    self.hit()  # perhaps another caller stored it between our look and our lease
                    break
                seen.add(self.lease)
                if ":pass:" in self.lease or len(seen) > PATIENCE:
                    break  # the last result was not stored
                if self._old is not None:
                    self.entry, self.outcome, self.value = self._old, "stale", self._old.value
                    break
                if not (pause := computations.wait(self, self.lease, self.blocks)):
                    break
                yield pause
                if self.hit():
                    break
        except BaseException:
            self.__exit__()
            raise
        finally:
            computations.waiting.pop(self, None)
        if self.is_ours:
            self._context = leases.held.set((*leases.held.get(), self.lease))
        if self.outcome != "hit":
            self.outcome = self.outcome or "miss"
            events.lookup(self.name, self.outcome, self._took)
        self._began = time.perf_counter()

    def store(self, value: Any, refusal: str | None = None, timeout: Seconds | None = None) -> None:
        """Store the computed value, for `timeout` if given, unless `refusal` says why not."""
        took, engine, now = time.perf_counter() - self._began, self.engine, self.engine.clock()
        self.value, self.outcome = value, refusal or "not stored"
        if self.lease and refusal is None:
            until = self.expires
            # A callable timeout, such as "until midnight", counts from when it was asked.
            if timeout is not None or not callable(self.timeout):
                until = engine.expiry(self.asked if timeout is None else timeout)
            entry = Entry(value, now, until := min(until, now + self.fresh), self.tokens)
            lifetime = engine.lifetime(until + self.stale)
            if now < until and self.backend.store(self.key, entry, lifetime, self.lease):
                self.outcome = "stored"
        if self.lease and self.outcome != "stored":
            successor = leases.new(self.lease, "pass") if self.mark else leases.ENDED
            self.backend.replace(self.key, self.lease, successor, leases.PASS)
        events.load(self.name, self.outcome, took)

    def __exit__(self, *_: object) -> None:
        if self.outcome == "miss":
            events.load(self.name, "error", time.perf_counter() - self._began)
        if self.is_ours:
            if self.outcome in ("", "miss", "hit"):
                self.backend.replace(self.key, self.lease, leases.ENDED, leases.PASS)
            # None if this process was forked meanwhile.
            if running := self.engine.computations.running.pop(self.lease, None):
                running[2].set()  # wakes those that wait in this process
        if self._context:
            with suppress(ValueError):  # a coroutine that was closed from outside of its task
                leases.held.reset(self._context)

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()
