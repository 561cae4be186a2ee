"""Entries: what the cache stores under a key, and timeouts."""

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

Seconds = float | timedelta
Timeout = Seconds | Callable[[], Seconds] | None


class Entry(NamedTuple):
    """A stored value with its times, in seconds since the epoch, and the tokens of its tags."""

    value: Any
    created: float
    expires: float = math.inf  #: When it stops being fresh; infinity for never.
    tokens: tuple[tuple[str, str], ...] = ()  #: Each tag's key and token, from before computing.


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
