"""Events: the cache tells its subscribers what it does, for metrics, logs or any other system.

`@events.lookup.subscribe` on a function of `name`, `result` and `seconds` (0 where nothing is
timed) subscribes it. It is called at once, in the thread of the event: put slow work into a queue.
If it uses the cache it causes further events; if it raises that is logged and does no harm.

The name of a cache is the endpoint of a page, the dotted name of any other function, the name of
the computing function for `get_or_set`, and `direct` for `get`, `set` and `add`. It is never a key.
"""

import logging
from collections.abc import Callable
from itertools import cycle
from typing import TypeVar

logger = logging.getLogger(__name__)

Subscriber = Callable[[str, str, float], object]
S = TypeVar("S", bound=Subscriber)

DIRECT = "direct"  # the name of the cache for values that are read and stored by key


class Event:
    """One kind of event and its subscribers. Call it to tell them."""

    _subscribers: tuple[Subscriber, ...] = ()

    def subscribe(self, subscriber: S) -> S:
        """Call `subscriber(name, result, seconds)` at each event, once. A decorator as well."""
        self.unsubscribe(subscriber)
        self._subscribers += (subscriber,)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Stop calling `subscriber`."""
        self._subscribers = tuple(s for s in self._subscribers if s != subscriber)

    def __call__(self, name: str, result: str, seconds: float = 0.0) -> None:
        """Tell every subscriber, even if another one raises."""
        for subscriber in self._subscribers:
            try:
                subscriber(name, result, seconds)
            except Exception:
                logger.exception("A subscriber of the cache's events failed: %r", subscriber)


def one_in(count: int, first: int = 2) -> Callable[[], bool]:
    """Return a function that is True in one of `count` calls; those before `first` may connect."""
    return cycle([number == first for number in range(1, count + 1)]).__next__


#: A look-up. The result is `hit`, `miss`, or `stale` for an old value that was served. A caller
#: that waited for another's value had a hit. Not told if a callable of the caller's raised before.
lookup = Event()
#: A value was computed after a miss. The result is `stored`, `error`, or why it was not stored.
load = Event()
bypass = Event()  #: A call went past its cache. The result is the reason.
put = Event()  #: A value was stored by its key. The result is `stored`.
#: The backend was asked. The name is the operation, such as `get`, the result `ok` or `error`. Of
#: successful `get`, `get_many` and `lease` only one in 32 is told.
operation = Event()
breaker = Event()  #: The breaker opened or closed. The result is `open` or `closed`.
corrupt = Event()  #: A stored value cannot be verified or read. The result is the reason.
