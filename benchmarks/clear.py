"""How long `clear()` keeps a full server from everybody else, beside stock Flask-Caching."""

import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from flask import Flask
from redis import Redis

from .apps import PATIENT, our_app, settings, stock_app
from .measuring import Row, beside, fresh_keys, lasting
from .projects import Projects
from .servers import redis_server

KEYS = 100_000
#: Keys that are stored with one call.
BATCH = 1_000
VALUE = "x" * 100
ROUNDS = 3
#: The most that one command may keep the server busy, in seconds.
TARGET = 0.01


class Cleared(NamedTuple):
    """What clearing a server cost, in seconds."""

    #: The slowest command, by the server's own clock.
    slowest: float
    whole: float


def measure(projects: Projects) -> list[Row]:
    """Return a row of the slowest command, and one of the whole."""
    return projects.inside("redis", compare, projects.scratch())


def compare(folder: Path) -> list[Row]:
    """Fill the server through each app in turn, and clear it through the same app."""
    with ExitStack() as stack:
        url = stack.enter_context(redis_server(folder)).url
        server = stack.enter_context(Redis.from_url(url))
        server.config_set("slowlog-max-len", 10 * KEYS)
        ours, stock = settings("redis", folder, url)
        sites = [our_app({**ours, **PATIENT}), stock_app(stock)]
        rounds = [[_clear(server, *site) for site in sites] for _ in range(ROUNDS)]
    both = list(zip(*rounds, strict=True))
    slowest, stock_slowest = (statistics.median(one.slowest for one in some) for some in both)
    whole, stock_whole = (statistics.median(one.whole for one in some) for some in both)
    name = f"clear: redis with {KEYS:,} keys"
    return [
        lasting(f"{name}, slowest command / RedisCache", slowest, stock_slowest, TARGET),
        beside(f"{name}, the whole / RedisCache", whole, stock_whole),
    ]


def _clear(server: Any, app: Flask, cache: Any) -> Cleared:
    with app.app_context():
        for _ in range(KEYS // BATCH):
            cache.set_many(dict.fromkeys(fresh_keys(BATCH), VALUE))
        if server.dbsize() != KEYS:
            raise AssertionError("the server is not full")
        server.slowlog_reset()
        server.config_set("slowlog-log-slower-than", 0)  # every command
        start = time.perf_counter()
        cache.clear()
        whole = time.perf_counter() - start
        server.config_set("slowlog-log-slower-than", -1)  # none
    if server.dbsize():
        raise AssertionError("the server is not empty")
    commands = server.slowlog_get(-1)
    return Cleared(max(one["duration"] for one in commands) / 1e6, whole)
