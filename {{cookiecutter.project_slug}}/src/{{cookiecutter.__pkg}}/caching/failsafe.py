"""The breaker: a failing backend is a miss and never an error."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from . import events

logger = logging.getLogger(__name__)
Errors = tuple[type[Exception], ...]

#: The seconds between two attempts to reach a backend that failed.
PROBE = 1.0
#: The failures in a row, with no success between them, that open the breaker.
FAILURES = 3

#: The operations, by their result while the backend fails. A lease that is not there is as if it
#: were ours: everyone computes, nobody waits.
_NONE = {"get", "inc", "delete_many", "lease", "ping", "usage"}
_FALSE = {"set", "add", "delete", "clear", "replace", "store"}
_LISTS = {"get_many", "set_many"}
#: The most frequent ones: timing each would double their cost.
_SAMPLED = {"get", "get_many", "lease"}
_DROPPING = {"delete", "delete_many", "clear"}


class FailSafe:
    """A backend that raises nothing when its engine fails.

    A backend's `errors` are the exceptions that mean a failure of its engine. Of these,
    `timeout_errors` open the breaker at once, and `rejections` never do: they are an answer, such
    as that there is no room, and are logged once a minute.

    Three failures in a row open the breaker, and so does an undelivered `delete`, `delete_many` or
    `clear`. While it is open only one background probe touches the engine. The app's entries are
    cleared before it closes if something could not be dropped.
    """

    def __init__(self, backend: Any) -> None:
        self.backend, self.is_open = backend, False
        self._errors: Errors = getattr(backend, "errors", (Exception,))
        self._timeout_errors: Errors = getattr(backend, "timeout_errors", (TimeoutError,))
        self._rejections: Errors = getattr(backend, "rejections", (TypeError, ValueError))
        self._failures, self._must_clear, self._next_line = 0, False, 0.0
        # Reentrant, because a handler of the log may use the cache.
        self._lock, self._telling = threading.RLock(), threading.RLock()
        self._prober: threading.Thread | None = None
        for operation in _NONE | _FALSE | _LISTS:
            if hasattr(backend, operation):  # Flask-Caching's own have no `ping` and no `usage`
                setattr(self, operation, self._guarded(operation))

    def __getattr__(self, name: str) -> Any:
        """Everything else is the backend's."""
        return getattr(self.backend, name)

    def _guarded(self, operation: str) -> Callable[..., Any]:
        call = getattr(self.backend, operation)
        is_told = events.one_in(32, 3) if operation in _SAMPLED else None

        def guarded(*args: Any) -> Any:
            if self.is_open and self._stays_open(operation):
                return _fallback(operation, args)
            began = time.perf_counter()
            try:
                result = call(*args)
            except self._errors as error:
                events.operation(operation, "error", time.perf_counter() - began)
                self._failed(operation, error)
                return _fallback(operation, args)
            if self._failures:
                self._failures = 0
            if is_told is None or is_told():
                events.operation(operation, "ok", time.perf_counter() - began)
            return result

        return guarded

    def _stays_open(self, operation: str) -> bool:
        with self._lock:
            if self.is_open:
                self._must_clear |= operation in _DROPPING
                self._keep_probing()
            return self.is_open

    def _failed(self, operation: str, error: Exception) -> None:
        dropping = operation in _DROPPING
        if isinstance(error, self._rejections) and not dropping:
            if time.monotonic() >= self._next_line:
                self._next_line = time.monotonic() + 60
                logger.error("The cache's backend rejects an operation: %s", error)
            return
        with self._lock:
            self._failures += 1
            self._must_clear |= dropping
            gone = isinstance(error, self._timeout_errors) or self._failures >= FAILURES
            if self.is_open or not (gone or self._must_clear):
                return
            self.is_open = True
            self._prober = None  # one that is just ending would not look again
            about = type(error).__name__, error
            logger.warning("The cache fails and is not asked until it answers: %s: %s", *about)
            self._keep_probing()
        self._tell()

    def _keep_probing(self) -> None:
        if self._prober is None or not self._prober.is_alive():  # it does not survive a fork
            self._prober = threading.Thread(target=self._probe, daemon=True)
            with suppress(RuntimeError):  # no more threads now: the next call tries again
                self._prober.start()

    def _probe(self) -> None:
        while self.is_open:
            time.sleep(PROBE)
            with self._lock:
                must_clear, self._must_clear = self._must_clear, False
            try:
                if must_clear:
                    self.backend.clear()
                # A write, because a database that others have locked can still be read.
                self.backend.delete(f"{__name__} probe")
            except Exception as error:
                logger.debug("The cache is still unavailable: %r", error)
                with self._lock:
                    self._must_clear |= must_clear
                continue
            with self._lock:
                self.is_open = self._must_clear  # another drop was not delivered meanwhile
                self._failures = 0
                if not self.is_open:
                    logger.warning("The cache answers again and is in use")
                    break
        self._tell()

    def _tell(self) -> None:
        """Tell subscribers the state of the breaker.

        Two threads may change it at once. One tells after the other, and each what is true then, so
        the last event is right. Not under the other lock, because a subscriber may use the cache.
        """
        with self._telling:
            events.breaker("breaker", "open" if self.is_open else "closed")


def _fallback(operation: str, args: tuple[Any, ...]) -> Any:
    if operation in _LISTS:
        return [None] * len(args) if operation == "get_many" else []
    return None if operation in _NONE else False
