"""Throughput while the engine of the cache fails, beside that of the page without a cache."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from .measuring import Row
from .run import Run
from .served import POSTS, TEN_POSTS, UNCACHED, Site, rate, sites
from .servers import PATIENCE, Load, Process, Server, fetch, redis_server, wrk

#: Keeps a database from being written to until its input ends.
LOCK = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


class Engine:
    """The engine of a cache, with its faults in the order in which they happen."""

    def __init__(self, folder: Path, stack: ExitStack, redis: Process | None = None) -> None:
        self.folder, self._stack, self._redis = folder, stack, redis

    def black_holed(self) -> None:
        """Stop the server: the machine accepts its connections, and it never answers."""
        assert self._redis
        self._redis.process.send_signal(signal.SIGSTOP)

    def killed(self) -> None:
        """Kill the server: what connects to its port is refused."""
        assert self._redis
        self._redis.process.kill()
        self._redis.process.wait()

    def restarted(self) -> None:
        """Start the server again, at its port and empty."""
        assert self._redis
        self._redis = self._stack.enter_context(redis_server(self.folder, self._redis.port))

    def deleted(self) -> None:
        """Delete every file of the cache."""
        for path in self.folder.glob("*/*"):
            path.unlink()

    def locked(self) -> None:
        """Let another process hold the database as one that writes does."""
        command = [sys.executable, "-c", LOCK, str(*self.folder.glob("*/*.sqlite3"))]
        pipe = subprocess.PIPE
        self._other = self._stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe))
        assert self._other.stdout
        if not self._other.stdout.readline():
            raise RuntimeError("the other process could not lock the database")

    def mend(self, fault: Callable[[], None]) -> None:
        """End a fault, unless the next one begins with it."""
        if fault == self.black_holed and self._redis:
            self._redis.process.send_signal(signal.SIGCONT)
        elif fault == self.locked:
            self._other.communicate()


def measure(run: Run) -> Iterator[Row]:
    """Return the rows of each fault."""
    for backend in ("redis", "disk"):
        with ExitStack() as stack:
            folder = run.scratch()
            redis = stack.enter_context(redis_server(folder)) if backend == "redis" else None
            servers = [Server(app, backend) for app in ("ours", "stock")]
            port = redis.port if redis else 0
            up = stack.enter_context(sites(run, servers, [TEN_POSTS, UNCACHED], port))
            engine = Engine(folder if redis else up[servers[0]].folder, stack, redis)
            yield from _rows(run, engine, *up.values())


def _rows(run: Run, engine: Engine, ours: Site, stock: Site) -> Iterator[Row]:
    redis, seconds = ours.server.backend == "redis", run.some(5.0, 1.0)
    faults = (
        [engine.black_holed, engine.killed, engine.restarted]
        if redis
        else [engine.deleted, engine.locked]
    )
    loads: dict[str, list[Load]] = {}
    firsts: dict[str, list[float]] = {}
    for number in range(rounds := run.some(3, 1)):
        run.say(f"faults of {ours.server.backend}: round {number + 1} of {rounds}")
        for fault in faults:
            loads.setdefault("uncached", []).append(ours.load(run, UNCACHED, run.some(1.5, 0.3)))
            if fault != engine.restarted:
                _wait_for_a_hit(ours.port)
            fault()
            with ThreadPoolExecutor(1) as pool:
                first = pool.submit(_seconds, ours.port)
                load = wrk(run, ours.port, POSTS, seconds)
            name = fault.__name__.replace("_", "-")
            loads.setdefault(name, []).append(load)
            firsts.setdefault(name, []).append(first.result())
            if fault == engine.black_holed:
                firsts.setdefault("stock", []).append(_seconds(stock.port))
            engine.mend(fault)
    run.raw |= {f"fault: {name}": [one._asdict() for one in some] for name, some in loads.items()}
    for at, fault in enumerate(faults):
        name = fault.__name__.replace("_", "-")
        title = f"{'Redis' if redis else 'the database'} {name}"
        rows = f"ten posts in the {seconds:.0f} seconds after {title}"
        beside = loads["uncached"][at :: len(faults)]
        target = ">= 0.9" if redis else ""
        yield rate(rows, loads[name], "the uncached page", beside, target, chief=redis)
        if name == "black-holed":
            title = f"{title}: the first request takes"
            others = firsts["stock"]
            target = "<= 0.3"
            yield Row(title, firsts[name], "stock", others, "s", target, absolute=True, chief=True)


def _seconds(port: int) -> float:
    start = time.perf_counter()
    if (found := fetch(port, POSTS)).status != 200:
        raise AssertionError(found)
    return time.perf_counter() - start


def _wait_for_a_hit(port: int) -> None:
    give_up = time.monotonic() + PATIENCE
    while "hit" not in dict(fetch(port, POSTS).headers)["cache-status"]:
        if time.monotonic() > give_up:
            raise AssertionError("the cache does not recover")
        time.sleep(0.05)
