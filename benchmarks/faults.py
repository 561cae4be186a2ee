"""Throughput after Redis fails, beside that of the page without a cache."""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from .measuring import Row
from .run import Run
from .served import TEN_POSTS, UNCACHED, rate, sites
from .servers import PATIENCE, Load, Server, fetch, redis_server, wrk


def measure(run: Run) -> Iterator[Row]:
    """Return the rows of each fault."""
    servers, seconds = [Server(app, "redis") for app in ("ours", "stock")], run.some(5.0, 1.0)
    loads: dict[str, list[tuple[Load, Load]]] = {}
    firsts: dict[str, list[float]] = {}
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(run))
        url = f"redis://127.0.0.1:{redis.port}/0"
        ours, stock = stack.enter_context(sites(run, servers, [TEN_POSTS], url)).values()

        def fail(name: str, fault: Callable[[], object]) -> None:
            before = ours.load(run, UNCACHED, run.some(1.5, 0.3))
            fault()
            with ThreadPoolExecutor(1) as pool:
                first = pool.submit(_seconds, ours.port)
                after = wrk(run, ours.port, TEN_POSTS.path, seconds)
            loads.setdefault(name, []).append((after, before))
            firsts.setdefault(name, []).append(first.result())

        def restart() -> None:
            nonlocal redis
            redis.popen.wait()
            redis = stack.enter_context(redis_server(run, redis.port))

        for number in range(rounds := run.some(3, 1)):
            run.say(f"faults of Redis: round {number + 1} of {rounds}")
            # The machine accepts its connections, and it never answers.
            fail("black-holed", partial(redis.popen.send_signal, signal.SIGSTOP))
            firsts.setdefault("stock", []).append(_seconds(stock.port))
            redis.popen.send_signal(signal.SIGCONT)
            _wait_for_a_hit(ours.port)
            fail("killed", redis.popen.kill)
            fail("restarted", restart)
            _wait_for_a_hit(ours.port)
    for name, both in loads.items():
        after, before = map(list, zip(*both, strict=True))
        run.raw[f"Redis is {name}"] = [load._asdict() for load in after]
        title = f"ten posts in the {seconds:.0f} seconds after Redis is {name}"
        yield rate(title, after, "the uncached page", before, ">= 0.9", name == "black-holed")
    name = "the first request after Redis is black-holed"
    taken = firsts["black-holed"], firsts["stock"]
    yield Row(name, taken[0], "stock", taken[1], "s", "<= 0.3", absolute=True, chief=True)


def _seconds(port: int) -> float:
    start = time.perf_counter()
    if (found := fetch(port, TEN_POSTS.path)).status != 200:
        raise AssertionError(found)
    return time.perf_counter() - start


def _wait_for_a_hit(port: int) -> None:
    give_up = time.monotonic() + PATIENCE
    while "hit" not in fetch(port, TEN_POSTS.path).headers["cache-status"]:
        if time.monotonic() > give_up:
            raise AssertionError("the cache does not recover")
        time.sleep(0.05)
