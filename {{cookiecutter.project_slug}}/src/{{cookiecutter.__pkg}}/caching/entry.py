"""What stands in the backend under a key, and the timeouts it is kept for."""

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

Seconds = float | timedelta
Timeout = Seconds | Callable[[], Seconds] | None


class Entry(NamedTuple):
    """A stored value with what is needed to judge it; times are seconds since the epoch."""

    value: Any
    created: float
    #: When it stops being fresh; infinity for never.
    expires: float = math.inf
    #: The key and the token of each of its tags, as they were before the value was computed.
    tokens: tuple[tuple[str, str], ...] = ()


class Computed(NamedTuple):
    """What a computation gave."""

    value: Any
    #: Why it may not be stored, in a word or two; None if it may.
    refusal: str | None = None
    #: Overrides the timeout that was asked for.
    timeout: Seconds | None = None


class Loaded(NamedTuple):
    """What a look-up gave: an entry that was found, or one that was computed."""

    entry: Entry
    #: "hit", "stale", "stored", or why what was computed is not stored.
    outcome: str


def unpack(stored: Any, now: float, stale: float = 0, bare: bool = True) -> Entry | None:
    """Return the entry that was stored, or None if there is none or it expired `stale` seconds ago.

    Anything but a tuple, of which JSON makes a list, is a value that stands bare, such as an
    integer to count on.
    """
    if stored is None:
        return None
    if isinstance(stored, (tuple, list)):
        if not 2 <= len(stored) <= len(Entry._fields):
            return None  # of another release
        entry = Entry(*stored)
    elif bare:
        entry = Entry(stored, now)
    else:
        return None  # unsigned: what the engine stores is never bare
    return entry if now < entry.expires + stale else None


def seconds(timeout: Seconds) -> float:
    """Return `timeout` in seconds; 0 means that the entry never expires.

    Raises TypeError for what is neither a number nor a timedelta, ValueError for a number that is
    negative, NaN or infinite.
    """
    value = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(
            f"a timeout is a number of seconds, such as 300, or a timedelta, not {timeout!r}"
        )
    if not 0 <= value < math.inf:
        raise ValueError(
            f"a timeout is 0 (never expires) or more seconds, such as 300, not {timeout!r}"
        )
    return value
