"""Tags: an entry is valid while the tokens of its tags are the ones it was stored with.

The token of a tag is a random text under a key of its own. Dropping it invalidates every entry with
that tag. A token made by counting would come back to life after an eviction; a random one cannot.
"""

import functools
import hashlib
import math
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from . import keys
from .entry import Entry

#: How many seconds a token lives longer than the entry that it was made for.
SPARE = 86400


@functools.lru_cache(maxsize=1024)
def key(tag: str) -> str:
    """Return the key of a tag's token, which no key of an app's own can be."""
    return keys.hashed("tag", (tag,), hashlib.blake2s)


def current(
    backend: Any, clock: Callable[[], float], found: Mapping[str, Entry | None], until: float
) -> tuple[tuple[str, str], ...]:
    """Return each tag's key with its token, made anew unless it lives until `until`.

    `found` has what is stored under the keys of the tags. Call it before computing, so that data
    invalidated meanwhile is stored with a token that is not valid any more.
    """
    tokens = list[tuple[str, str]]()
    for name, token in found.items():
        tokens.append((name, _token(backend, clock, name, token, until)))
    return tuple(tokens)


def _token(
    backend: Any, clock: Callable[[], float], name: str, token: Entry | None, until: float
) -> str:
    if token is not None and token.expires >= until:
        return str(token.value)
    now = clock()
    made = Entry(secrets.token_hex(8), now, until + SPARE)
    keep = 0 if until == math.inf else math.ceil(until - now) + SPARE
    if token is None:
        if backend.add(name, tuple(made), keep):
            return str(made.value)
        other = backend.get(name)  # somebody else was first, unless it expired by our clock
        if isinstance(other, tuple) and clock() < other[2]:
            return str(other[0])
    backend.set(name, tuple(made), keep)
    return str(made.value)
