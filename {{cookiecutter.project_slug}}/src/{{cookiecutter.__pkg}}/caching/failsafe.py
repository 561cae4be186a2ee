"""A failing backend is a miss and never an error: what stands between the cache and its backend."""

import logging
import pickle
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from . import events

logger = logging.getLogger(__name__)

#: The seconds between two attempts to reach a backend that failed.
PROBE = 1.0
#: So many failures in a row, with no success between them, open the breaker.
FAILURES = 3

#: What each operation gives where the backend fails.
_FALLBACKS: dict[str, Callable[..., Any]] = {
    "get": lambda *args: None,
    "get_many": lambda *keys: [None] * len(keys),
    "has": lambda *args: False,
    "set": lambda *args: False,
    "set_many": lambda *args: [],
    "add": lambda *args: False,
    "inc": lambda *args: None,
    "dec": lambda *args: None,
    "delete": lambda *args: False,
    "delete_many": lambda *keys: None,
    "clear": lambda: False,
    "lease": lambda *args: None,  # as if it were ours: everybody computes, nobody waits
    "succeed": lambda *args: False,
    "store": lambda *args: False,
    "ping": lambda: None,
    "usage": lambda: None,
}
#: What says that a value cannot be stored or read, and nothing about the engine.
_VALUES = (
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    EOFError,
    ImportError,
    RecursionError,
    pickle.PickleError,
)
#: So seldom is one of these timed that went well; timing each would cost as much as it does.
_TIMED = {"get": 32, "get_many": 32}
_STORING = {"set", "set_many", "add", "store"}
_DROPPING = {"delete", "delete_many", "clear"}


def _is_the_values(error: Exception) -> bool:
    return isinstance(error, _VALUES) and not isinstance(error, OSError)


class FailSafe:
    """A backend that raises nothing when its engine fails.

    A backend says with `errors` which exceptions mean that its engine failed, and with `timeouts`
    which of them mean that waiting was in vain, and with `refusals` which are an answer, such as
    that there is no room: those are logged, and it is asked again.

    A timeout opens the breaker at once, other failures when there are three in a row, and so does
    an undelivered `delete`, `delete_many` or `clear`. While it is open nothing but one background
    probe touches the engine; what could not be dropped is made up for by clearing the app's
    entries before the breaker closes.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.is_open = False
        self._errors: tuple[type[Exception], ...] = getattr(backend, "errors", (Exception,))
        self._timeouts: tuple[type[Exception], ...] = getattr(backend, "timeouts", (TimeoutError,))
        self._refusals: tuple[type[Exception], ...] = getattr(backend, "refusals", ())
        self._failures = 0
        self._owed = False
        self._lock = threading.RLock()  # a handler of the log may ask the cache
        self._telling = threading.RLock()
        self._next_line = 0.0
        self._prober: threading.Thread | None = None
        for operation, fallback in _FALLBACKS.items():
            if hasattr(backend, operation):  # Flask-Caching's have no `ping` and no `usage`
                setattr(self, operation, self._guarded(operation, fallback))

    def __getattr__(self, name: str) -> Any:
        """Everything else is the backend's."""
        return getattr(self.backend, name)

    def _guarded(self, operation: str, fallback: Callable[..., Any]) -> Callable[..., Any]:
        call = getattr(self.backend, operation)
        is_told = events.one_in(_TIMED.get(operation, 1))

        def guarded(*args: Any, **kwargs: Any) -> Any:
            if self.is_open and self._refuse(operation):
                return fallback(*args)
            began = time.perf_counter()
            try:
                result = call(*args, **kwargs) if kwargs else call(*args)
            except self._errors as error:
                events.operation(operation, "error", time.perf_counter() - began)
                if operation not in _DROPPING and _is_the_values(error):
                    logger.error("A value cannot be cached or read: %r under %.200r", error, args)
                elif operation not in _DROPPING and isinstance(error, self._refusals):
                    self._refused(error)
                else:
                    self._failed(operation, error)
                return fallback(*args)
            except Exception as error:
                if operation not in _STORING:
                    raise
                events.operation(operation, "error", time.perf_counter() - began)
                logger.error("A value cannot be cached: %r under %.200r", error, args)
                return fallback(*args)
            if self._failures:
                self._failures = 0
            if is_told():
                events.operation(operation, "ok", time.perf_counter() - began)
            return result

        return guarded

    def _refuse(self, operation: str) -> bool:
        with self._lock:
            if self.is_open:
                self._owed |= operation in _DROPPING
                self._keep_probing()
            return self.is_open

    def _refused(self, error: Exception) -> None:
        if time.monotonic() >= self._next_line:  # as long as it lasts, a line a minute
            self._next_line = time.monotonic() + 60
            logger.error("The cache refuses what it is asked: %s", error)

    def _failed(self, operation: str, error: Exception) -> None:
        with self._lock:
            self._failures += 1
            self._owed |= operation in _DROPPING
            gone = isinstance(error, self._timeouts) or self._failures >= FAILURES
            opens = (gone or self._owed) and not self.is_open
            if opens:
                self.is_open = True
                self._prober = None  # one that is just ending would not look again
                about = type(error).__name__, error
                logger.warning("The cache fails and is not asked until it answers: %s: %s", *about)
                self._keep_probing()
        if opens:
            self._tell()

    def _keep_probing(self) -> None:
        if self._prober is None or not self._prober.is_alive():  # it does not survive a fork
            self._prober = threading.Thread(target=self._probe, daemon=True)
            with suppress(RuntimeError):  # no more threads now: whoever asks next tries again
                self._prober.start()

    def _probe(self) -> None:
        while self.is_open:
            time.sleep(PROBE)
            with self._lock:
                owed, self._owed = self._owed, False
            try:
                if owed:
                    self.backend.clear()
                # A write, since a database that others hold can still be read.
                self.backend.delete(f"{__name__} probe")
            except Exception as error:
                logger.debug("The cache is still out of reach: %r", error)
                with self._lock:
                    self._owed |= owed
                continue
            with self._lock:
                self.is_open = self._owed  # something else could not be dropped meanwhile
                self._failures = 0
                if not self.is_open:
                    logger.warning("The cache answers again and is in use")
                    break
        self._tell()

    def _tell(self) -> None:
        """Tell whether the breaker is open now: whoever is the last to tell tells what is true.

        Without the other lock, since a subscriber may ask the cache.
        """
        with self._telling:
            events.breaker("breaker", "open" if self.is_open else "closed")
