"""Pages over HTTP: ours, stock Flask-Caching's, on gunicorn too, and those of a bare app."""

import base64
import itertools
import json
import shutil
import sqlite3
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .apps import SLOW, settings
from .measuring import Row
from .run import Run
from .servers import GUNICORN, SERVED, UNMONITORED, Load, Server, engine, fetch, wrk

#: Workers and threads.
CASES = [(1, 1), (1, SERVED), (2, 1), (2, SERVED)]
#: So many pages miss at once, and so many callers ask for one page at once.
MISSES, CALLERS = 8, 50
#: The least ratio of ten posts to stock's on the same server.
STOCK = {"memory": ">= 1", "disk": "", "redis": ">= 1.2"}
#: A post's title before all pages are kept, and after: an answer says when it was made.
TITLES = "Post 12", "Post AB"


class Page(NamedTuple):
    """A page, whether it is a hit, and whether the client has it already."""

    name: str
    path: str
    is_hit: bool = True
    conditional: bool = False


TEN_POSTS = Page("ten posts", "/recent_posts")
UNCACHED = Page("an uncached page", "/uncached", is_hit=False)
OTHERS = [Page("hello", "/"), Page("100 kB", "/large")]
OTHERS += [Page("a 304", "/recent_posts", conditional=True), UNCACHED]


class Site(NamedTuple):
    """A server that is up, and its answers when everything was kept."""

    server: Server
    port: int
    etag: str
    bodies: dict[Page, bytes]

    def load(self, run: Run, page: Page, seconds: float) -> Load:
        """Measure a page between two looks at its answer."""
        header = f"If-None-Match: {self.etag}" if page.conditional else ""
        self._check(page, header)
        load = wrk(run, self.port, page.path, seconds, header)
        self._check(page, header)
        name = f"{page.name}: {self.server.app}, {self.server.backend}, {self.server}"
        run.raw.setdefault(name, []).append(load._asdict())
        return load

    def _check(self, page: Page, header: str) -> None:
        expected = 200, self.bodies[page]
        if page.conditional and not self.server.is_stock:
            expected = 304, b""
        elif not page.is_hit and self.server.app != "bare":
            expected = 200, expected[1].replace(TITLES[0].encode(), TITLES[1].encode())
        for turn in range(turns := 2 * self.server.workers):
            found = fetch(self.port, page.path, header)
            says = found.headers.get("cache-status", "hit" * page.is_hit)
            # The first may be a miss, since hello expires in a run; posts would have another title.
            wrong = turn == turns - 1 and ("hit" in says) != page.is_hit
            if found[::2] != expected or wrong:
                raise AssertionError(f"{page.path} of {self.server} is {found}")


@contextmanager
def sites(
    run: Run, servers: Sequence[Server], pages: Sequence[Page], url: str
) -> Iterator[dict[Server, Site]]:
    """Start servers, the first of which is ours, and let each keep every page."""
    folder, backend = run.scratch(), servers[0].backend
    env = {"BENCH_ANSWERS": str(folder / "answers.json")}
    for prefix, config in zip(("FLASK", "STOCK"), settings(backend, folder, url), strict=True):
        env |= {f"{prefix}_{name}": value for name, value in config.items()}
    title = partial(_rename, run.project(backend))
    with ExitStack() as stack:
        ours = stack.enter_context(servers[0].start(run, env))
        ours.wait()
        etag, bodies = _record(ours.port, folder / "answers.json")
        up = {server: stack.enter_context(server.start(run, env)) for server in servers[1:]}
        up = {servers[0]: ours, **up}
        for server, process in up.items():
            process.wait()
            for page in pages:
                wrk(run, process.port, page.path, run.some(0.5, 0.1))
                for _ in range(30 * (server.workers - 1)):  # so that every worker keeps it
                    fetch(process.port, page.path)
        stack.callback(title, TITLES[0])
        title(TITLES[1])
        yield {server: Site(server, it.port, etag, bodies) for server, it in up.items()}


def _record(port: int, path: Path) -> tuple[str, dict[Page, bytes]]:
    """Write our answers to a file, for the bare app; return the posts' ETag and all bodies."""
    etag = fetch(port, TEN_POSTS.path).headers["etag"]
    recorded, bodies = [], {}
    for page in [TEN_POSTS, *OTHERS]:
        bodies[page] = fetch(port, page.path).body
        found = fetch(port, page.path, f"If-None-Match: {etag}" if page.conditional else "")
        kept = [it for it in found.headers.items() if it[0] not in ("server", "date", "connection")]
        status = "304 NOT MODIFIED" if page.conditional else "200 OK"
        recorded.append([page.path, page.conditional, status, kept, found.body.decode()])
    path.write_text(json.dumps(recorded))
    return etag, bodies


def _rename(project: Path, title: str) -> None:
    """Change the title of the newest post behind the back of the apps."""
    with closing(sqlite3.connect(project / "src/instance/app.sqlite3")) as connection:
        connection.execute("UPDATE posts SET title = ? WHERE id = 12", [title])
        connection.commit()


def measure(run: Run) -> Iterator[Row]:
    """Return the rows of ten posts on all servers, of the other pages, of misses and of herds."""
    cases = CASES[: run.some(4, 2)]
    for backend in ("memory", "disk", "redis"):
        servers = [Server(app, backend, *case) for case in cases for app in ("ours", "stock")]
        if backend == "memory":
            servers += [Server("bare", backend, *case) for case in cases]
            served = [case for case in cases if case[1] == SERVED]
            servers += [Server(app, backend, *case) for app in GUNICORN for case in served]
            servers.append(Server(UNMONITORED))
        yield from _compare(run, servers, [TEN_POSTS])
    servers = [Server(app, "memory", *case) for case in CASES[:2] for app in ("ours", "stock")]
    yield from _compare(run, servers + [Server("bare", "memory", *it) for it in CASES[:2]], OTHERS)
    yield from _beside_misses(run)
    for backend in ("memory", "disk", "redis")[:: run.some(1, 2)]:
        yield from _herds(run, backend, 1 if backend == "memory" else 2)


def _compare(run: Run, servers: list[Server], pages: list[Page]) -> Iterator[Row]:
    """Measure in rounds, in which every server has its turn; return a row for each beside ours."""
    loads: dict[tuple[Page, Server], list[Load]] = {}
    backend, what = servers[0].backend, ", ".join(page.name for page in pages)
    with engine(run, backend) as url, sites(run, servers, pages, url) as up:
        contenders = list(itertools.product(pages, servers))
        for number in range(rounds := run.some(5, 1)):
            run.say(f"{what}, {backend}: round {number + 1} of {rounds}")
            for page, server in contenders[:: 1 if number % 2 else -1]:
                load = up[server].load(run, page, run.some(1.3, 0.25))
                loads.setdefault((page, server), []).append(load)
    for page, server in contenders:
        ours = Server("ours", backend, server.workers, server.threads)
        alone = server.workers == 1 and page is TEN_POSTS
        if alone and server.threads == SERVED and server.app not in ("bare", UNMONITORED):
            name = server.app + f", {backend}" * (server.app not in GUNICORN)
            run.bars.append((name, [load.rate for load in loads[page, server]]))
        if server != ours and (page.is_hit or server.app != "bare"):
            name = f"{page.name}, `{backend}`, {ours}"
            both = loads[page, ours], loads[page, server]
            target = {UNMONITORED: ">= 0.95", "stock": STOCK[backend]}.get(server.app, "")
            chief = alone and server.app != "bare" and (server.threads > 1 or backend == "memory")
            yield rate(name, both[0], server.app, both[1], target * alone, chief)
            if alone and server == Server("stock"):
                p99 = [[load.p99 for load in some] for some in both]
                name = f"{name}: 99th percentile"
                yield Row(name, p99[0], server.app, p99[1], target="<= 1", chief=True)


def _beside_misses(run: Run) -> Iterator[Row]:
    """Measure ten posts, and again while eight other pages miss for two seconds each."""
    numbers = itertools.count()
    with sites(run, [Server("ours"), Server("stock")], [TEN_POSTS], "") as up:
        for server, site in up.items():
            p99: dict[bool, list[float]] = {False: [], True: []}
            for number in range(rounds := run.some(5, 1)):
                run.say(f"{MISSES} misses, {server.app}: round {number + 1} of {rounds}")
                p99[False].append(site.load(run, TEN_POSTS, SLOW * 0.7).p99)
                with ThreadPoolExecutor(MISSES) as pool:
                    paths = [f"/slow/{n}" for n in itertools.islice(numbers, MISSES)]
                    slow = [pool.submit(fetch, site.port, path) for path in paths]
                    time.sleep(SLOW * 0.1)  # they are there before the hits are
                    p99[True].append(wrk(run, site.port, TEN_POSTS.path, SLOW * 0.7).p99)
                    if any(one.done() for one in slow):
                        raise AssertionError("a slow page was not slow")
                if any(one.result()[::2] != (200, b"slow") for one in slow):
                    raise AssertionError("a slow page is another one")
            name = f"{server.app}: 99th percentile of a hit while {MISSES} pages miss for 2 s each"
            ours = server.app == "ours"
            target = "<= 3" if ours else ""
            yield Row(name, p99[True], "without", p99[False], target=target, chief=ours)


def _herds(run: Run, backend: str, workers: int) -> Iterator[Row]:
    """Count the computations when all callers ask at once for a page that is new, or expired."""
    run.say(f"{CALLERS} callers at once, {backend}, workers: {workers}")
    servers = [Server(app, backend, workers, CALLERS) for app in ("ours", "stock")]
    counts: dict[tuple[Server, str], list[int]] = {}
    with engine(run, backend) as url, sites(run, servers, [], url) as up:
        for number in range(run.some(3, 1)):
            for (server, site), page in itertools.product(up.items(), ("a new", "an expired")):
                with ThreadPoolExecutor(CALLERS) as pool:
                    ask = [pool.submit(fetch, site.port, f"/herd/{number}") for _ in range(CALLERS)]
                answers = [one.result() for one in ask]
                if any(answer.status != 200 for answer in answers):
                    raise AssertionError(answers)
                # Each computation has an answer of its own.
                counts.setdefault((server, page), []).append(len({one.body for one in answers}))
                time.sleep(1.1)  # until it has expired
    for page in ("a new", "an expired"):
        name = f"computations for {CALLERS} callers of {page} page, `{backend}`"
        ours, stock = run.raw[name] = [counts[server, page] for server in servers]
        most, usual = [max(ours)], [statistics.median(stock)]
        chief = (backend, workers, page) == ("redis", 2, "an expired")
        yield Row(name, most, "stock", usual, "", "<= 1", absolute=True, chief=chief)


def scrape(run: Run) -> Iterator[Row]:
    """Ask for the metrics of eight workers, and again with a file for each of many restarts."""
    run.say("scrapes")
    password, workers, restarts = "a password", 8, 50
    env = {"FLASK_CACHE_DIR": str(run.scratch()), "FLASK_MONITORING_PASSWORD": password}
    with Server("ours", "disk", workers, 1).start(run, env) as process:
        process.wait()
        port, folder = process.port, run.project("disk") / ".metrics" / str(process.port)
        process.wait(lambda: len(list(folder.glob("counter_*.db"))) == workers)
        for path in ("/", "/recent_posts", "/daily_stats", "/user/1") * 100:
            fetch(port, path)
        auth = base64.b64encode(f"monitoring:{password}".encode()).decode()

        def seconds(_: int) -> float:
            start = time.perf_counter()
            found = fetch(port, "/metrics", f"Authorization: Basic {auth}")
            if b"cache_gets_total" not in found.body:
                raise AssertionError(found)
            return time.perf_counter() - start

        ours = list(map(seconds, range(run.some(30, 5))))
        for file in [it for it in folder.glob("*_0.db") if "gauge" not in it.name]:
            for number in range(restarts):  # as prometheus_client names them, by process id
                shutil.copy(file, file.with_name(file.name.replace("_0.", f"_{1000 + number}.")))
        by_id = list(map(seconds, range(len(ours))))
    name, beside = f"a scrape of {workers} workers", f"with files by id, {restarts} restarts"
    yield Row(name, ours, beside, by_id, "s", "<= 0.05", absolute=True, chief=True)


def rate(
    name: str, ours: list[Load], beside: str, others: list[Load], target: str, chief: bool
) -> Row:
    """Return the row of requests a second."""
    details = []
    for loads in (ours, others):
        middle = [statistics.median(figures) * 1e3 for figures in zip(*loads, strict=True)][1:]
        details.append(f" ({'/'.join(f'{figure:.3g}' for figure in middle)} ms)")
    rates = [[load.rate for load in loads] for loads in (ours, others)]
    return Row(name, rates[0], beside, rates[1], "/s", target, details=details, chief=chief)
