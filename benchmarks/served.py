"""Pages over HTTP, asked for by wrk: ours, stock Flask-Caching's and a bare app's, and gunicorn."""

import itertools
import json
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .apps import SLOW, settings
from .measuring import Row
from .run import Run
from .servers import (
    GUNICORN,
    SERVE_THREADS,
    UNMONITORED,
    Load,
    Process,
    Server,
    answers,
    fetch,
    redis_server,
    redis_url,
    wait_until,
    wrk,
)

THREADS, WORKERS = (1, SERVE_THREADS), (1, 2)
#: A post's title before all pages are kept, and after: an answer says when it was made.
BEFORE, AFTER = "Post 12", "Post AB"
POSTS = "/recent_posts"


class Page(NamedTuple):
    """A page, whether it is a hit, and whether the client has it already."""

    name: str
    path: str
    hit: bool = True
    conditional: bool = False


UNCACHED = Page("an uncached page", "/uncached", hit=False)
PAGES = [
    Page("hello", "/"),
    Page("100 kB", "/large"),
    Page("a 304", POSTS, conditional=True),
    UNCACHED,
]
TEN_POSTS = Page("ten posts", POSTS)
ALL = [TEN_POSTS, *PAGES]
#: So many other pages miss at once.
MISSES = 8


class Site(NamedTuple):
    """A server that is up, and the answers that it must give."""

    server: Server
    port: int
    #: What the settings name as its place.
    folder: Path
    etag: str
    #: The status and body of each page.
    expected: dict[Page, tuple[int, bytes]]

    def load(self, run: Run, page: Page, seconds: float) -> Load:
        """Measure a page between two looks at its answer."""
        self.check(page)
        load = wrk(run, self.port, page.path, seconds, self.header(page))
        self.check(page)
        run.raw.setdefault(f"{page.name}: {self.server}", []).append(load._asdict())
        return load

    def check(self, page: Page) -> None:
        """Raise AssertionError if an answer is not the one expected."""
        for _ in range(2 * self.server.workers):
            found = fetch(self.port, page.path, self.header(page))
            says = dict(found.headers).get("cache-status", "hit" * page.hit)
            if found[::2] != self.expected[page] or ("hit" in says) != page.hit:
                raise AssertionError(f"{page.path} of {self.server} is {found}")

    def header(self, page: Page) -> str:
        """Return the header that a client sends."""
        return f"If-None-Match: {self.etag}" if page.conditional else ""


@contextmanager
def sites(
    run: Run, servers: Sequence[Server], pages: Sequence[Page], redis: int = 0
) -> Iterator[dict[Server, Site]]:
    """Start servers, the first of which is ours, and let each keep every page."""
    folder, project = run.scratch(), run.project(servers[0].backend)
    recorded = folder / "answers.json"
    with ExitStack() as stack:
        change = stack.enter_context(_database(project))
        up: dict[Server, Process] = {}
        for number, server in enumerate(servers):
            ours, stock = settings(server.backend, folder / str(number), redis_url(redis, number))
            env = {f"FLASK_{name}": value for name, value in ours.items()}
            env |= {f"STOCK_{name}": value for name, value in stock.items()}
            env["BENCH_ANSWERS"] = str(recorded)
            up[server] = process = stack.enter_context(server.start(run, **env))
            if not number:
                wait_until(partial(answers, process.port), process.process)
                etag, bodies = _record(process.port, recorded)
        for server, process in up.items():
            wait_until(partial(answers, process.port), process.process)
            for page in pages:
                wrk(run, process.port, page.path, run.some(0.5, 0.1))
                for _ in range(30 * (server.workers - 1)):  # so that every worker keeps it
                    fetch(process.port, page.path)
        change(AFTER)
        now = {page: body.replace(BEFORE.encode(), AFTER.encode()) for page, body in bodies.items()}
        yield {
            server: Site(
                server,
                process.port,
                folder / str(number),
                etag,
                {
                    page: (304, b"")
                    if page.conditional and not server.stock
                    else (200, body if page.hit or server.app == "bare" else now[page])
                    for page, body in bodies.items()
                },
            )
            for number, (server, process) in enumerate(up.items())
        }


def _record(port: int, path: Path) -> tuple[str, dict[Page, bytes]]:
    """Write our answers to a file, for the bare app; return the posts' ETag and all bodies."""
    etag = dict(fetch(port, POSTS).headers)["etag"]
    recorded, bodies = [], {}
    for page in ALL:
        bodies[page] = fetch(port, page.path).body
        found = fetch(port, page.path, f"If-None-Match: {etag}" if page.conditional else "")
        headers = [it for it in found.headers if it[0] not in ("server", "date", "connection")]
        status = "304 NOT MODIFIED" if page.conditional else "200 OK"
        recorded.append([page.path, page.conditional, status, headers, found.body.decode()])
    path.write_text(json.dumps(recorded))
    return etag, bodies


@contextmanager
def _database(project: Path) -> Iterator[Callable[[str], None]]:
    """Give what changes the title of the newest post; afterwards it is as before."""

    def change(title: str) -> None:
        with closing(sqlite3.connect(project / "src/instance/app.sqlite3")) as connection:
            connection.execute("UPDATE posts SET title = ? WHERE id = 12", [title])
            connection.commit()

    try:
        yield change
    finally:
        change(BEFORE)


def measure(run: Run) -> Iterator[Row]:
    """Return the rows of ten posts on all servers, of the other pages, and beside slow misses."""
    for backend in ("memory", "disk", "redis"):
        yield from _ten_posts(run, backend)
    yield from _pages(run)
    yield from _beside_misses(run)


def _ten_posts(run: Run, backend: str) -> Iterator[Row]:
    cases = [(workers, threads) for workers in WORKERS for threads in THREADS]
    servers = [Server(app, backend, *case) for case in cases for app in ("ours", "stock")]
    if backend == "memory":
        servers += [Server("bare", backend, *case) for case in cases]
        servers += [Server(app, backend, workers, 4) for app in GUNICORN for workers in WORKERS]
        servers.append(Server(UNMONITORED))
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(run.scratch())).port if backend == "redis" else 0
        up = stack.enter_context(sites(run, servers, [TEN_POSTS], redis))
        loads = _loads(run, [(site, TEN_POSTS) for site in up.values()], f"ten posts, {backend}")
    found = {server: loads[server, TEN_POSTS] for server in servers}
    for server, taken in found.items():
        if server.workers == 1 and server.threads != 1 and server.app not in ("bare", UNMONITORED):
            name = {"ours": f"ours, {backend}", "stock": f"stock, {backend}"}.get(server.app)
            run.bars.append((name or f"{server.app}, stock", [load.rate for load in taken]))
    for workers, threads in cases:
        case, ours = (backend, workers, threads), found[Server("ours", backend, workers, threads)]
        name = f"ten posts, `{backend}`, {_served(workers, threads)}"
        target = {"redis": ">= 1.2", "memory": ">= 1" if workers == 1 else ""}.get(backend, "")
        chief = workers == 1
        yield rate(name, ours, "stock", found[Server("stock", *case)], target, chief)
        if backend == "memory":
            if case == (backend, 1, SERVE_THREADS):
                others = [load.p99 for load in found[Server("stock", *case)]]
                p99 = [load.p99 for load in ours]
                yield Row(
                    f"{name}: 99th percentile", p99, "stock", others, target="<= 1", chief=True
                )
                bare = found[Server(UNMONITORED)]
                yield rate(name, ours, "not monitored", bare, ">= 0.95")
            yield rate(name, ours, "bare WSGI app", found[Server("bare", *case)])
            for app in GUNICORN if threads > 1 else ():
                beside = f"stock on {app}"
                yield rate(name, ours, beside, found[Server(app, backend, workers, 4)], "", chief)


def _pages(run: Run) -> Iterator[Row]:
    servers = [Server(app, threads=n) for n in THREADS for app in ("ours", "stock", "bare")]
    with sites(run, servers, PAGES) as up:
        loads = _loads(run, [(up[s], page) for page in PAGES for s in servers], "the other pages")
    for page in PAGES:
        for threads in THREADS:
            name = f"{page.name}, {_served(1, threads)}"
            ours, stock, bare = (loads[s, page] for s in servers if s.threads == threads)
            yield rate(name, ours, "stock", stock)
            if page.hit:
                yield rate(name, ours, "bare WSGI app", bare)


def _loads(
    run: Run, contenders: list[tuple[Site, Page]], what: str
) -> dict[tuple[Server, Page], list[Load]]:
    """Return the loads of all, one of each round, in turns as `taken` has them."""
    found: dict[tuple[Server, Page], list[Load]] = {}
    for number in range(rounds := run.some(5, 1)):
        run.say(f"{what}: round {number + 1} of {rounds}")
        for site, page in contenders[:: 1 if number % 2 else -1]:
            load = site.load(run, page, run.some(1.3, 0.3))
            found.setdefault((site.server, page), []).append(load)
    return found


def _beside_misses(run: Run) -> Iterator[Row]:
    """Measure ten posts, and again while eight other pages miss for two seconds each."""
    servers, numbers = [Server("ours"), Server("stock")], itertools.count()
    with sites(run, servers, [TEN_POSTS]) as up:
        for server, site in up.items():
            quiet, busy = list[float](), list[float]()
            for number in range(rounds := run.some(5, 1)):
                run.say(f"eight misses beside hits, {server.app}: round {number + 1} of {rounds}")
                quiet.append(site.load(run, TEN_POSTS, SLOW * 0.7).p99)
                paths = [f"/slow/{n}" for n in itertools.islice(numbers, MISSES)]
                with ThreadPoolExecutor(MISSES) as pool:
                    slow = [pool.submit(fetch, site.port, path) for path in paths]
                    time.sleep(SLOW * 0.1)  # they are there before the hits are
                    load = wrk(run, site.port, POSTS, SLOW * 0.7)
                    if any(one.done() for one in slow) or {one.result()[::2] for one in slow} != {
                        (200, b"slow")
                    }:
                        raise AssertionError("a slow page was not slow")
                busy.append(load.p99)
            name = f"99th percentile of a hit while {MISSES} pages miss for 2 s each, {server.app}"
            ours = server.app == "ours"
            yield Row(name, busy, "without", quiet, target="<= 3" if ours else "", chief=ours)


def rate(
    name: str,
    ours: list[Load],
    beside: str,
    others: list[Load],
    target: str = "",
    chief: bool = False,
) -> Row:
    """Return the row of requests a second."""
    rates = [[load.rate for load in loads] for loads in (ours, others)]
    details = (_percentiles(ours), _percentiles(others))
    return Row(name, rates[0], beside, rates[1], "/s", target, details=details, chief=chief)


def _percentiles(loads: list[Load]) -> str:
    """Return the medians of the percentiles, in milliseconds."""
    middle = [statistics.median(figures) * 1e3 for figures in zip(*(it[1:] for it in loads))]  # noqa: B905
    return f" ({'/'.join(f'{figure:.3g}' for figure in middle)} ms)"


def _served(workers: int, threads: int) -> str:
    return f"{workers} worker{'s' * (workers > 1)}, {threads} thread{'s' * (threads > 1)}"
