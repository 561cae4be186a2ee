"""Backends without a page: the cost of `disk`, bytes an entry, and how `clear` keeps Redis busy."""

import tracemalloc
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from flask_caching.backends.filesystemcache import FileSystemCache
from redis import Redis

from .apps import PATIENT, our_app, settings, stock_app
from .measuring import Round, Row, fresh_keys, seconds_each, taken
from .run import Run
from .servers import engine

FULL, ENTRIES = 500, 400
#: Keys in Redis that are cleared, and how many are stored by one call.
KEYS, BATCH = 100_000, 1_000
VALUE = "x" * 1_000


def measure(run: Run) -> Iterator[Row]:
    """Return the rows of all."""
    run.say("disk, full")
    yield from run.inside("disk", disk, run.scratch(), run.some(15, 3))
    for backend in ("memory", "disk", "redis"):
        run.say(f"bytes an entry, {backend}")
        with engine(run, backend) as url:
            args = held, backend, run.scratch(), url
            ours, stock = (run.inside(backend, *args, app) for app in (0, 1))
            yield Row(f"`{backend}`: bytes an entry of 1,000", ours, "stock", stock, "bytes")
            if url:
                run.say("clear")
                count = run.some(KEYS, KEYS // 5)
                yield from run.inside(backend, clear, url, run.scratch(), count, run.some(3, 1))


def disk(folder: Path, rounds: int) -> Iterator[Row]:
    """Fill both in `folder`, then set fresh keys and get some that are there."""
    make = import_module("shop.caching.backend").Backend
    backend = make(folder / "ours", "s:", threshold=FULL, wait=60)
    ours = import_module("shop.caching.codec").Codec(backend, "s:", ["a secret"])  # it signs
    stock = FileSystemCache(str(folder / "stock"), threshold=FULL)
    # Ours evicts 50 at once when it is full, so a round holds several of these.
    sets = taken(_sets(ours, 600), _sets(stock, 6), rounds=rounds)
    gets = taken(_gets(ours), _gets(stock), rounds=2 * rounds)
    for name, both, target in (("set", sets, f"<= {1 / 300:.5f}"), ("get", gets, "<= 1")):
        name = f"`disk`, full at {FULL}: {name}"
        yield Row(name, both[0], "FileSystemCache", both[1], target=target, chief=True)


def _sets(backend: Any, count: int) -> Round:
    def put(key: str) -> None:
        backend.set(key, VALUE)

    seconds_each(put, fresh_keys(FULL + 1))
    return lambda: seconds_each(put, fresh_keys(count))


def _gets(backend: Any) -> Round:
    keys = fresh_keys(100)
    for key in keys:
        backend.set(key, VALUE)
        if backend.get(key) != VALUE:
            raise AssertionError("a value that was stored is not there")
    return lambda: seconds_each(backend.get, keys * 5)


def held(backend: str, folder: Path, url: str, which: int) -> Iterator[float]:
    """Give the bytes of an entry: of memory, of files, or of the server's memory."""
    config = settings(backend, folder, url)[which]
    app, cache = stock_app(config) if which else our_app(config)
    server = Redis.from_url(url) if url else None
    used = int(server.info("memory")["used_memory"]) if server else 0
    keys = fresh_keys(ENTRIES)
    tracemalloc.start()
    with app.app_context():
        for number, key in enumerate(keys):
            cache.set(key, f"{number:01000}")
            if cache.get(key) != f"{number:01000}":
                raise AssertionError("a value that was stored is not there")
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if server:
        size = int(server.info("memory")["used_memory"]) - used
        server.flushall()
    elif backend == "disk":
        size = sum(path.stat().st_blocks * 512 for path in folder.rglob("*"))
    yield size / ENTRIES


def clear(url: str, folder: Path, count: int, rounds: int) -> Iterator[Row]:
    """Fill the server through each app in turn, and clear it through the same app."""
    ours, stock = settings("redis", folder, url)
    sites = [our_app(ours | PATIENT), stock_app(stock)]
    with Redis.from_url(url) as server:
        server.config_set("slowlog-max-len", 10 * count)
        turns = [partial(_clear, server, count, *site) for site in sites]
        slowest = taken(*turns, rounds=rounds)
    name = f"`redis`: the slowest command of a `clear` of {count:,} keys"
    yield Row(name, slowest[0], "stock", slowest[1], "s", "<= 0.01", absolute=True, chief=True)


def _clear(server: Any, count: int, app: Any, cache: Any) -> float:
    """Return the seconds for which the longest command kept the server, by its own clock."""
    with app.app_context():
        for _ in range(count // BATCH):
            cache.set_many(dict.fromkeys(fresh_keys(BATCH), VALUE[:100]))
        if server.dbsize() != count:
            raise AssertionError("the server is not full")
        server.slowlog_reset()
        server.config_set("slowlog-log-slower-than", 0)  # every command
        cache.clear()
        server.config_set("slowlog-log-slower-than", -1)  # none
    if server.dbsize():
        raise AssertionError("the server is not empty")
    return float(max(one["duration"] for one in server.slowlog_get(-1))) / 1e6
