"""An entry, which is a value with its times and tags, and the timeouts that callers give."""

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

Seconds = float | timedelta
Timeout = Seconds | Callable[[], Seconds] | None


class Entry(NamedTuple):
    """A stored value with all that decides whether it is served.

    Times are seconds since the epoch.
    """

    value: Any
    created: float
    #: When it stops being fresh; infinity for never.
    expires: float = math.inf
    #: The key and the token of each of its tags, as they were before the value was computed.
    tokens: tuple[tuple[str, str], ...] = ()


def seconds(timeout: Seconds) -> float:
    """Return `timeout` in seconds; 0 means that the entry never expires.

    Raises TypeError unless it is a number or a timedelta, ValueError for a number that is negative,
    NaN or infinite.
    """
    value = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"a timeout is in seconds, such as 300, or a timedelta, not {timeout!r}")
    if not 0 <= value < math.inf:
        raise ValueError(f"a timeout is 0 (never expires) or more, such as 300, not {timeout!r}")
    return value
