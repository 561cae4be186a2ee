"""The breaker: a failing backend is a miss and never an error."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from . import events
from .lru import new_lock

logger = logging.getLogger(__name__)

PROBE = 1.0  # seconds between two attempts to reach a backend that failed
FAILURES = 3  # in a row, with no success between them, open the breaker

#: The operations, with their results while the backend fails: everyone gets each lease.
FALLBACKS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("get", "inc", "lease", "ping", "usage"), lambda *_: None),
    **dict.fromkeys(("set", "add", "delete", "clear", "replace", "store"), lambda *_: False),
    **dict.fromkeys(("set_many", "delete_many"), lambda *_: []),
    "get_many": lambda *keys: [None] * len(keys),
}
_DROPPING = {"delete", "delete_many", "clear"}


class FailSafe:
    """A backend that raises nothing when its engine fails.

    A backend's `errors` mean a failure of its engine. Of these, `timeout_errors` open the breaker
    at once, and `rejections` never do: they are an answer, such as that there is no room. Three
    failures in a row open it, and so does an undelivered drop: then the app's entries are cleared
    before it closes. While it is open only one background probe touches the engine.
    """

    def __init__(self, backend: Any) -> None:
        vars(self)["backend"] = backend  # first, because a subclass asks it what it has
        self.is_open = False
        self._failures, self._undelivered, self._next_line = 0, 0, 0.0
        # Reentrant, because a handler of the log and a subscriber of the event may use the cache.
        self._lock = new_lock()
        self._prober = threading.Thread()
        # Telling each of the frequent ones would double their cost.
        self._is_told = {name: events.one_in(32, 3) for name in ("get", "get_many", "lease")}

    def __getattr__(self, name: str) -> Any:
        its = getattr(self.backend, name)
        return partial(self.ask, name) if name in FALLBACKS else its

    def ask(self, operation: str, *args: Any) -> Any:
        """Return the backend's answer, or the fallback."""
        if not (self.is_open and self.stays_open(operation)):
            began = time.perf_counter()
            try:
                result = getattr(self.backend, operation)(*args)
            except getattr(self.backend, "errors", Exception) as error:
                events.operation(operation, "error", time.perf_counter() - began)
                self._failed(operation, error)
            else:
                if self._failures:
                    self._failures = 0
                is_told = self._is_told.get(operation)
                if is_told is None or is_told():
                    events.operation(operation, "ok", time.perf_counter() - began)
                return result
        return FALLBACKS[operation](*args)

    def stays_open(self, operation: str = "") -> bool:
        """Tell whether the breaker is still open; if it is, see to it that the engine is probed."""
        with self._lock:
            if self.is_open:
                self._undelivered += operation in _DROPPING
                if not self._prober.is_alive():  # it does not survive a fork
                    self._prober = threading.Thread(target=self._probe, daemon=True)
                    with suppress(RuntimeError):  # no more threads now: the next call tries again
                        self._prober.start()
            return self.is_open

    def _failed(self, operation: str, error: Exception) -> None:
        dropping, its = operation in _DROPPING, self.backend
        if isinstance(error, getattr(its, "rejections", (TypeError, ValueError))) and not dropping:
            if time.monotonic() >= self._next_line:
                self._next_line = time.monotonic() + 60
                logger.error("The cache's backend rejects an operation: %s", error)
            return
        with self._lock:
            self._failures += 1
            timed_out = isinstance(error, getattr(its, "timeout_errors", TimeoutError))
            if not self.is_open and (timed_out or dropping or self._failures >= FAILURES):
                self.is_open = True
                self._prober = threading.Thread()  # the old one may be alive still, but is ending
                about = type(error).__name__, error
                logger.warning("The cache fails and is not asked until it answers: %s: %s", *about)
                events.breaker("breaker", "open")
            self.stays_open(operation)

    def _probe(self) -> None:
        while True:
            time.sleep(PROBE)
            undelivered = self._undelivered
            try:
                if undelivered:
                    self.backend.clear()
                # A write, because a database that others have locked can still be read.
                self.backend.delete(f"{__name__} probe")
            except Exception as error:
                logger.debug("The cache is still unavailable: %r", error)
                continue
            with self._lock:  # so that the last event is right
                self._undelivered -= undelivered
                if not self._undelivered:  # unless another drop failed meanwhile
                    self.is_open, self._failures = False, 0
                    logger.warning("The cache answers again and is in use")  # a handler may use us
                    events.breaker("breaker", "open" if self.is_open else "closed")
                    return
