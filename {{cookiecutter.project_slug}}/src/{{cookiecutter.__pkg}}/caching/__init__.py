"""Caching: import `cache` wherever something is worth keeping, `LRUCache` for a small local one.

This folder is the template's: `cruft update` keeps it current, and the template's tests prove it.

A cached page or function, from the outside in:

    cache.py      the methods that an app calls: get, set, get_or_set, cached, memoize, invalidate
    pages.py      one page: its key, the answer on a hit and on a miss
    rules.py      what a page may depend on, and whether it may be kept
    functions.py  one function: its key and its results
    look.py       one look-up: a hit, or a wait for another's computation, or compute and store;
                  entries, and tags, which make an entry invalid
    leases.py     the locks of look.py, so that one computes while the others wait
    codec.py      values to stored bytes, signed, and back
    failsafe.py   the breaker: a failing backend is a miss
    backend.py    the engine that was chosen

`watch.py` notes reads of a request, `parts.py` has the headers, cookies and properties of a watched
one, `visitor.py` the names that identify a visitor. `advice.py` says why something is not kept,
`views.py` finds pages below other decorators, `keys.py` makes keys, `events.py` tells subscribers
what the cache does, `lru.py` is the small LRU.
"""

from .cache import Cache
from .lru import LRUCache

__all__ = ["LRUCache", "cache"]

cache = Cache()  #: The app's cache. `create_app` binds it to the app.
