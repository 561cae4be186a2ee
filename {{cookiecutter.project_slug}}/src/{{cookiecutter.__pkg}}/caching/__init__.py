"""Caching: import `cache` wherever something is worth keeping, `LRUCache` for a small local one."""

from .cache import Cache
from .lru import LRUCache

__all__ = ["LRUCache", "cache"]

#: The app's cache. `create_app` binds it to the app.
cache = Cache()
