"""Codec: turns values into the bytes and integers that a backend stores, and back.

Values that leave the process are pickles, and loading one can run code. Each is therefore signed,
so that write access to the cache's server or file is not enough to run code here.
"""

import copyreg
import hashlib
import hmac
import logging
import math
import pickle
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache, partial, partialmethod
from typing import Any, NamedTuple

from flask import Flask, Response
from werkzeug.datastructures import Headers

from . import events
from .failsafe import FailSafe

logger = logging.getLogger(__name__)

_SIZE = 32  # bytes of a signature
_signature = partial(hashlib.blake2b, digest_size=_SIZE)  # takes a key (RFC 7693)


class Entry(NamedTuple):
    """A stored value with its times, in seconds since the epoch, and the tokens of its tags."""

    value: Any
    created: float
    expires: float = math.inf  #: When it stops being fresh; infinity for never.
    tokens: tuple[tuple[str, str], ...] = ()  #: Each tag's key and token, from before computing.


class Codec(FailSafe):
    """The face of a backend, called `cache.cache` by apps: it takes and gives any value.

    Within the process immutable tuples are stored as they are, all else as pickles, so that each
    caller gets a copy. With `secrets` these are signed: the first signs, each of them verifies.
    With `text` they are text, for a serializer such as JSON. Integers stay bare, to count on.

    Timeouts are in seconds, 0 for ever, None for the backend's default. A value that cannot be
    pickled is logged and not stored; one that does not verify or cannot be read is a miss.
    """

    def __init__(self, backend: Any, prefix: str, secrets: list[Any], text: bool = False) -> None:
        super().__init__(backend)
        self._prefix, self._text = prefix, text
        # Derived keys: they sign nothing but cached values, sessions least of all.
        as_bytes = [s.encode() if isinstance(s, str) else s for s in secrets]
        self._secrets = [hmac.digest(s, b"cached entries", "sha256") for s in as_bytes]
        self._as_they_are = {int, type(None)} | (set() if secrets else {tuple, Entry})

    def __setattr__(self, name: str, value: Any) -> None:
        backend = getattr(self.backend, "backend", self.backend)  # which has a `serializer`
        if name == "serializer" and hasattr(backend, name):
            self._text = True
        own = name[0] == "_" or hasattr(Codec, name) or callable(getattr(backend, name, callable))
        object.__setattr__(self if own else backend, name, value)

    def get(self, key: str) -> Any:
        """Return the value of `key`, None on a miss."""
        stored = self.ask("get", key)
        return stored if type(stored) in self._as_they_are else self._load(key, stored)

    def get_many(self, *keys: str) -> list[Any]:
        """Return the value of each key, None where there is none, by one command."""
        found: list[Any] = self.ask("get_many", *keys)
        for at, stored in enumerate(found):
            if type(stored) not in self._as_they_are:
                found[at] = self._load(keys[at], stored)
        return found

    def get_dict(self: Any, *keys: str) -> dict[str, Any]:
        """Return the value of each key by key, None where there is none."""
        return dict(zip(keys, self.get_many(*keys), strict=True))

    def has(self, key: str) -> bool:
        """Tell whether `key` has a value, None included."""
        return self.ask("get", key) is not None

    def set_many(self, mapping: Mapping[str, Any], timeout: int | None = None) -> list[str]:
        """Store values as `set` does, by one command; return the keys that were stored."""
        dumped = {key: self._dump("set_many", key, value) for key, value in mapping.items()}
        stored = {key: data for key, data in dumped.items() if data is not None}
        return list(self.ask("set_many", stored, self._seconds(timeout)))

    def dec(self: Any, key: str, delta: int = 1) -> int | None:
        """Subtract `delta` as `inc` adds it."""
        return self.inc(key, -delta)  # type: ignore[no-any-return]

    def _seconds(self, timeout: float | timedelta | None) -> int:
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        return self.default_timeout if seconds is None else math.ceil(seconds)

    def _put(self, how: str, key: str, value: Any, timeout: int | None = None, *lease: str) -> bool:
        stored = self._dump(how, key, value)
        timeout = timeout if type(timeout) is int else self._seconds(timeout)
        return stored is not None and bool(self.ask(how, key, stored, timeout, *lease))

    # As those of the backend; False if the value could not be stored.
    set, add, store = map(partial(partialmethod, _put), ("set", "add", "store"))

    def _dump(self, operation: str, key: str, value: Any) -> Any:
        """Return the stored form of `value`, None if it cannot be pickled."""
        if type(value) is int and -(2**63) <= value < 2**63:
            return value
        try:
            if not self._secrets and isinstance(value, tuple) and _immutable(value):
                return value
            # With its key, so that it cannot be moved to another one.
            parts = tuple(value) if type(value) is Entry else (value,)
            pickled = pickle.dumps((self._prefix + key, *parts), pickle.HIGHEST_PROTOCOL)
            if not self._secrets:
                return pickled
        except Exception as error:
            events.operation(operation, "error")
            logger.error("A value cannot be cached: %r under %.200r", error, key)
            return None
        signed = _signature(pickled, key=self._secrets[0]).digest() + pickled
        return signed.decode("latin-1") if self._text else signed

    def _load(self, key: str, stored: Any) -> Any:
        """Return the value that was stored under `key`, None if it is not one of ours."""
        try:
            pickled = stored.encode("latin-1", "ignore") if isinstance(stored, str) else stored
            if self._secrets:
                signature, pickled = pickled[:_SIZE], pickled[_SIZE:]
                for secret in self._secrets:
                    if hmac.compare_digest(signature, _signature(pickled, key=secret).digest()):
                        break
                else:
                    return _corrupt("does not verify", key)
            stored_under, value, *more = pickle.loads(pickled)
            entry = Entry(value, *more) if more else value
        except Exception:  # an older release may have stored anything
            return _corrupt("cannot be read", key)
        moved = stored_under != self._prefix + key
        return _corrupt("was moved to another key", key) if moved else entry


def _immutable(value: Any) -> bool:
    if type(value) in (tuple, frozenset, Entry):
        return all(map(_immutable, value))
    return value is None or type(value) in (str, bytes, int, float, bool, complex)


def _corrupt(reason: str, key: str) -> None:
    logger.warning("A cached value %s and counts as a miss: %s", reason, key)
    events.corrupt("value", reason)


def shown(app: Flask, entry: Entry) -> Any:
    """Return the stored page as a response; below other decorators, what the view returned."""
    body, status, stored, _ = entry.value
    if not status:
        return body
    headers = Headers()
    headers._list += stored
    return _finished(app.response_class)(body, headers)  # type: ignore[arg-type]


# The methods that make and send a response.
_SENDING = "__init__ __call__ close iter_encoded get_app_iter get_wsgi_response get_wsgi_headers"


@lru_cache(maxsize=16)
def _finished(kind: Any) -> Any:
    """Return a function that makes a finished response: status 200, headers checked before.

    It is sent as it was made, with the headers `sent`, unless somebody has changed it.
    Flask's own class checks and copies all of that for each response, which takes as long as the
    look-up.
    """
    if any(getattr(kind, name) is not getattr(Response, name) for name in _SENDING.split()):
        return lambda body, headers: kind([body], 200, headers)

    def make(body: bytes, headers: Headers) -> Any:
        response, made = object.__new__(finished), [body]
        vars(response).update(
            blank, response=made, made=made, body=body, headers=headers, _on_close=[]
        )
        return response

    def get_wsgi_response(self: Any, environ: Any) -> Any:
        if (
            self.headers._list == self.sent
            and self.status_code == 200
            and self.response is self.made
            and self.made == [self.body]
            and len(vars(self)) == size  # nobody has replaced a method
            and not self._on_close
            and environ["REQUEST_METHOD"] != "HEAD"
        ):
            return self.made, self.status, self.sent
        return kind.get_wsgi_response(self, environ)

    def __reduce_ex__(self: Any, _: Any) -> Any:  # a pickle or copy is of the app's class
        own = {name: it for name, it in vars(self).items() if name in blank}
        return copyreg._reconstructor, (kind, object, None), own  # type: ignore[attr-defined]

    blank = vars(kind(status=200))
    size = len(blank) + len(("made", "body", "sent"))
    own = {"get_wsgi_response": get_wsgi_response, "__reduce_ex__": __reduce_ex__, "sent": None}
    finished: Any = type(kind.__name__, (kind,), own)
    return make
