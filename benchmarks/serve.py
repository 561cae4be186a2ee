"""How many threads a worker needs so that hits do not wait for a slow request.

By wrk, if it is there. It takes some minutes, so it runs only when it is named.
"""

import itertools
import re
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.request import urlopen

from flask import Flask

from .apps import our_app
from .measuring import Row, duration
from .projects import Projects
from .servers import granian

THREADS = (1, 2, 4, 8, 16, 32)
#: How long the slow request takes, in seconds. There is always one.
SLOW = 2.0
#: So many clients ask for hits at once: fewer than some numbers of threads, and as many or more.
CONNECTIONS = (8, 32)
#: For how many seconds they do in one round.
SECONDS = 4
ROUNDS = 3
#: Of wrk's report.
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class Hits(NamedTuple):
    """What clients met: the 99th percentile of the seconds that a hit took, and hits a second."""

    percentile: float
    rate: float


def create_app() -> Flask:
    """Make the app that Granian serves: a page that is a hit, and a slow one that never is."""
    app, cache = our_app({})
    app.add_url_rule("/page", "page", cache.cached(3600)(lambda: "a page" * 1_000))

    @app.get("/slow")
    def slow() -> str:
        time.sleep(SLOW)
        return "slow"

    return app


def measure(projects: Projects) -> list[Row]:
    """Return a row for each number of threads, of the median round."""
    wrk = shutil.which("wrk")
    if wrk is None:
        return [Row("serve: not measured, for wrk is missing (Debian: apt install wrk)", "")]
    rounds = [
        [hits for threads in THREADS for hits in _round(projects, wrk, threads)]
        for _ in range(ROUNDS)
    ]
    return [
        Row(
            f"serve: {threads} thread{'s' * (threads > 1)}, {connections} clients, "
            "99th percentile / hits a second",
            duration(statistics.median(one.percentile for one in taken)),
            f"{statistics.median(one.rate for one in taken):,.0f}",
        )
        for (threads, connections), taken in zip(
            itertools.product(THREADS, CONNECTIONS), zip(*rounds, strict=True), strict=True
        )
    ]


def _round(projects: Projects, wrk: str, threads: int) -> list[Hits]:
    """Serve with so many threads and return what each number of clients meets."""
    with granian(projects.bake("memory"), f"{__name__}:create_app", threads) as port:
        url = f"http://127.0.0.1:{port}"
        _get(f"{url}/page")  # from now on a hit
        with _slow_requests(f"{url}/slow"):
            return [_hits(wrk, connections, f"{url}/page") for connections in CONNECTIONS]


def _hits(wrk: str, connections: int, url: str) -> Hits:
    # One that waits for long is what is measured, not an error.
    command = [wrk, "-t1", f"-c{connections}", f"-d{SECONDS}s", "--timeout=60s", "--latency", url]
    limit = SECONDS + 90
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=limit)
    latency = re.search(r"^ +99% +([\d.]+)(\w+)", done.stdout, re.MULTILINE)
    rate = re.search(r"^Requests/sec: +([\d.]+)", done.stdout, re.MULTILINE)
    errors = "Non-2xx" in done.stdout or "Socket errors" in done.stdout
    if latency is None or rate is None or errors:
        raise AssertionError(done.stdout)
    return Hits(float(latency[1]) * UNITS[latency[2]], float(rate[1]))


@contextmanager
def _slow_requests(url: str) -> Iterator[None]:
    """Keep one slow request running, and the next one as soon as it is answered."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            _get(url)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(SLOW / 10)  # it is there before the hits are
    try:
        yield
        if not thread.is_alive():
            raise AssertionError("the slow request failed")
    finally:
        stop.set()
        thread.join()


def _get(url: str) -> None:
    with urlopen(url, timeout=60) as answer:
        answer.read()
