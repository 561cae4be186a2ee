"""What the cache does, told to whoever subscribes: for metrics, logs or any other system.

    from .caching import events

    @events.lookup.subscribe
    def log(name: str, result: str, seconds: float) -> None: ...

Each kind of event below says what its `name` and `result` are; `seconds` is how long it took, 0
where no time is taken. A subscriber is called at once, by the thread in which it happened: what
takes long belongs into a queue, and one of `lookup`, `load`, `put` or `operation` that uses the
cache itself would be told of that again. One that raises is logged and harms nothing.

The name of a cache is the endpoint of a page, the dotted name of any other function, that of the
computing function for `get_or_set`, and `direct` for `get`, `set` and `add`. It is never a key.
"""

import itertools
import logging
from collections.abc import Callable
from typing import TypeVar

logger = logging.getLogger(__name__)

Subscriber = Callable[[str, str, float], object]
S = TypeVar("S", bound=Subscriber)

#: The name of the cache for what is read and stored by key.
DIRECT = "direct"


def one_in(number: int) -> Callable[[], bool]:
    """Return a function that is true once in `number` calls, for events too frequent to time each.

    It begins with the second call, since the first may open a connection. Threads may share it.
    """
    return itertools.cycle([number == 1, True] + [False] * (number - 2)).__next__


class Event:
    """One kind of event, and who wants to know of it. Call it to tell them."""

    def __init__(self) -> None:
        self._subscribers: tuple[Subscriber, ...] = ()

    def subscribe(self, subscriber: S) -> S:
        """Call `subscriber(name, result, seconds)` at each event from now on; once, if it is twice.

        Returns it, so this is a decorator as well.
        """
        self.unsubscribe(subscriber)
        self._subscribers += (subscriber,)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Call `subscriber` no more."""
        self._subscribers = tuple(s for s in self._subscribers if s != subscriber)

    def __call__(self, name: str, result: str, seconds: float = 0.0) -> None:
        """Tell the subscribers, each whatever becomes of the others."""
        for subscriber in self._subscribers:
            try:
                subscriber(name, result, seconds)
            except Exception:
                logger.exception("A subscriber of the cache's events failed: %r", subscriber)


#: A cache was asked. The result is `hit`, `miss`, or `stale` for an old value that was served. Who
#: waited for the computation of another and was given its value had a hit. Not told if a callable
#: of the caller's raised before that was known, such as one for the timeout.
lookup = Event()
#: A value was computed after a miss. The result is `stored`, `error`, or why it was not stored.
load = Event()
#: A call went past its cache. The result is the reason.
bypass = Event()
#: A value was stored by its key. The result is `stored`.
put = Event()
#: The backend was asked. The name is the operation, such as `get`, the result `ok` or `error`. Of
#: the operations `get` and `get_many` that went well only one in 32 is told, or timing them would
#: cost as much as they do.
operation = Event()
#: The backend is left alone from now on, or in use again. The result is `open` or `closed`.
breaker = Event()
#: A stored value does not verify or cannot be read. The result is the reason.
corrupt = Event()
