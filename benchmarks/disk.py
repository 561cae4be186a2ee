"""The disk backend beside FileSystemCache, both full."""

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from flask_caching.backends.filesystemcache import FileSystemCache

from .measuring import Round, Row, alternate, beside, fresh_keys, seconds_each
from .projects import Projects

THRESHOLD = 500
VALUE = "x" * 1_000


def measure(projects: Projects) -> list[Row]:
    """Return the rows of `set` and of `get`."""
    return projects.inside("disk", compare, projects.scratch())


def compare(folder: Path) -> list[Row]:
    """Fill both in `folder`, then set fresh keys and get some that are there."""
    backend = import_module("shop.caching.backend").Backend
    codec = import_module("shop.caching.codec").Codec  # which signs values
    ours = codec(backend(folder / "ours", "shop:1:", threshold=THRESHOLD), "shop:1:", ["a secret"])
    stock = FileSystemCache(str(folder / "stock"), threshold=THRESHOLD)
    # Ours evicts 50 at once when it is full, so a round holds several of these.
    our_set, stock_set = alternate(_sets(ours, 600), _sets(stock, 6), rounds=15)
    our_get, stock_get = alternate(_gets(ours), _gets(stock), rounds=25)
    return [
        beside(
            f"disk: set, full at {THRESHOLD} / FileSystemCache", our_set, stock_set, target=1 / 300
        ),
        beside("disk: get, a hit / FileSystemCache", our_get, stock_get, target=1.0),
    ]


def _sets(backend: Any, count: int) -> Round:
    put = partial(_set, backend)
    seconds_each(put, fresh_keys(THRESHOLD + 1))
    return lambda: seconds_each(put, fresh_keys(count))


def _gets(backend: Any) -> Round:
    keys = fresh_keys(100)
    for key in keys:
        backend.set(key, VALUE)
        if backend.get(key) != VALUE:
            raise AssertionError("a value that was stored is not there")
    return lambda: seconds_each(backend.get, keys * 5)


def _set(backend: Any, key: str) -> None:
    backend.set(key, VALUE)
