"""A look-up, told from top to bottom: a hit, or a wait, or compute and store.

    with cache.look("name", "key", timeout=60) as look:
        if look.entry is None:
            look.store(compute())
    return look.entry.value
"""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import flask_caching
from flask import current_app

from . import events, leases, tags
from .codec import Codec
from .entry import Entry, Seconds, Timeout, seconds

#: How many seconds longer the backend keeps an entry than it is fresh, which our clock decides.
SPARE = 60


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
        found: Codec = app.extensions["cache"][self]
        return found

    def look(self, *args: Any, **kwargs: Any) -> "Look":
        """Return a `Look` with these arguments, to be used as a context manager."""
        return Look(self, *args, **kwargs)

    def find(
        self,
        backend: Codec,
        names: tuple[str, ...],
        tag_keys: tuple[str, ...] = (),
        stale: float = 0,
        *,
        bare: bool = True,
    ) -> tuple[list[Entry | None], dict[str, Entry | None]]:
        """Return the valid entry of each key, and what is stored under each tag's key.

        One command to the backend; a second one only for entries with further tags. With `bare`, a
        value that is stored without its times, such as an integer to count on, is an entry as well.
        """
        if len(names) == 1 and not tag_keys:
            stored = [backend.get(names[0])]
        else:
            stored = backend.get_many(*names, *tag_keys)
        now = self.clock()
        found = [_entry(each, now, stale, bare) for each in stored]
        if len(found) == 1 and (found[0] is None or not found[0].tokens):
            return found, {}  # as most are
        entries, tokens = found[: len(names)], dict(zip(tag_keys, found[len(names) :], strict=True))
        further = [tag for e in entries if e for tag, _ in e.tokens if tag not in tokens]
        if further:
            others = backend.get_many(*further)
            tokens |= {tag: _entry(o, now) for tag, o in zip(further, others, strict=True)}
        for at, entry in enumerate(entries):
            if entry is not None:
                seen = dict(entry.tokens)
                for tag in {*tag_keys, *seen}:
                    token = tokens[tag]
                    if token is None or seen.get(tag) != token.value:
                        entries[at] = None
        return entries, tokens

    def expiry(self, timeout: Seconds | None) -> float:
        """Return when a value that is stored now expires; infinity for never."""
        if timeout is None:
            timeout = self.cache.default_timeout
        lifetime = timeout if type(timeout) is int and timeout >= 0 else seconds(timeout)
        return self.clock() + lifetime if lifetime else math.inf

    def lifetime(self, until: float) -> int:
        """Return for how many whole seconds the backend keeps an entry; 0 for ever."""
        return 0 if until == math.inf else math.ceil(max(0, until - self.clock())) + SPARE


@dataclass(eq=False)
class Look:
    """One look-up of one key."""

    engine: Engine
    #: The cache's name, for events.
    name: str
    key: str
    timeout: Timeout
    #: The keys of the entry's tags.
    tag_keys: tuple[str, ...] = ()
    #: For how many seconds after the timeout the old value is served while one caller computes.
    stale: float = 0
    #: Tells whether an entry that was found must be computed anew.
    outdated: Callable[[Entry], bool] | None = None
    #: Nobody waits, and nothing is stored.
    alone: bool = False
    #: The entry that was found or stored. None: compute the value and call `store`.
    entry: Entry | None = field(default=None, init=False)
    #: "hit", "stale", "miss", "stored", or why the computed value was not stored.
    outcome: str = field(default="miss", init=False)

    def __enter__(self) -> "Look":
        """Look up; wait while another caller computes."""
        self.backend, self.tokens = self.engine.cache, ()
        self.lease, self.is_ours = "", False
        try:
            return self._enter()
        except BaseException:
            self._end()
            raise

    def _enter(self) -> "Look":
        engine, backend, key = self.engine, self.backend, self.key
        rejected, seen, pause, give_up = None, set[str](), 0.005, 0.0
        while True:
            began = time.perf_counter()
            (entry,), found = engine.find(backend, (key,), self.tag_keys, self.stale, bare=False)
            if entry is not None and self.outdated is not None:
                if entry.created == rejected or self.outdated(entry):
                    rejected, entry = entry.created, None
            looked = time.perf_counter() - began
            if entry is not None and engine.clock() < entry.expires:
                events.lookup(self.name, "hit", looked)
                self.entry, self.outcome = entry, "hit"
                if self.lease:  # stored by another caller between our look-up and our lease
                    self._end()
                return self
            if self.alone or self.lease:
                break
            self.asked = self.timeout() if callable(self.timeout) else self.timeout
            self.expires = engine.expiry(self.asked)
            self.tokens = tags.current(backend, engine.clock, found, self.expires + self.stale)
            self.about = hashlib.blake2s(repr(self.tokens).encode()).hexdigest()[: leases.ABOUT]
            lease = leases.new(self.about)
            held = backend.lease(key, lease, leases.LEASE)
            if held is None:
                self.lease, self.is_ours = lease, True
                engine.computations.start(backend, key, lease)
                continue
            seen.add(held)
            give_up = give_up or time.monotonic() + leases.WAIT
            left = give_up - time.monotonic()
            if ":pass:" in held or len(seen) > leases.PATIENCE or left <= 0:
                self.lease = held  # not ours: everyone computes now
                break
            if entry is not None:
                events.lookup(self.name, "stale", looked)
                self.entry, self.outcome = entry, "stale"
                return self
            pause = min(2 * pause, 0.1)
            engine.computations.wait_for(held, left, pause)
        events.lookup(self.name, "miss", looked)
        self.began = time.perf_counter()
        return self

    def store(self, value: Any, refusal: str | None = None, timeout: Seconds | None = None) -> None:
        """Store the computed value, unless `refusal` says why it must not be.

        `timeout` replaces the one of the look-up.
        """
        took = time.perf_counter() - self.began
        engine, now = self.engine, self.engine.clock()
        outcome, until = refusal or "not stored", now
        if self.lease:
            until = self.expires
            # A callable timeout, such as "until midnight", counts from when it was asked; seconds
            # count from when the value is there.
            if timeout is not None or not callable(self.timeout):
                until = engine.expiry(self.asked if timeout is None else timeout)
        self.entry = Entry(value, now, until, self.tokens)
        if self.lease:
            if refusal is None and now < until:
                lifetime = engine.lifetime(until + self.stale)
                if self.backend.store(self.key, tuple(self.entry), lifetime, self.lease):
                    outcome = "stored"
            if outcome != "stored":
                mark = leases.new(self.about, "pass")
                self.backend.renew(self.key, self.lease, mark, leases.PASS)
        self.outcome = outcome
        events.load(self.name, outcome, took)

    def __exit__(self, *_: object) -> None:
        """End the computation, if there was one."""
        if self.outcome == "miss":
            events.load(self.name, "error", time.perf_counter() - self.began)
        self._end()

    def _end(self) -> None:
        if self.is_ours:
            if self.outcome in ("miss", "hit"):
                self.backend.release(self.key, self.lease)
            self.engine.computations.end(self.lease)
            self.is_ours = False


def _entry(stored: Any, now: float, stale: float = 0, bare: bool = True) -> Entry | None:
    """Return the entry that was stored, None if there is none or it expired `stale` seconds ago."""
    if not isinstance(stored, tuple):
        return Entry(stored, now) if bare and stored is not None else None
    if len(stored) != len(Entry._fields):
        return None  # of another release
    entry = Entry(*stored)
    return entry if now < entry.expires + stale else None
