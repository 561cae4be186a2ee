"""The metrics of several worker processes: right in one scrape, through kills and forks."""

import ast
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection, HTTPException
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.parser import text_string_to_metric_families

from tests.baking import BACKENDS, ROUTES, SLUG, Answers
from tests.serving import free_port, get, make_serve, redis_env, redis_server, wait_until

CLIENTS = 8
WORKERS = 3
RESTARTS = 50
#: The requests of one connection: few, since a worker is found anew for each connection only.
PER_CONNECTION = 5
#: Each is one look-up, a 404 as well.
PAGES = [
    "/",
    "/user/1?secret=abc",
    "/recent_posts?token=xyz",
    "/user/2",
    "/daily_stats",
    "/user/99",
]
#: The files of one worker: those of each kind of metric, once it has counted one.
KINDS = {"counter", "gauge_livemax", "gauge_livesum", "histogram", "summary"}
ENDPOINTS = {f"{route}.{route}" for route in ROUTES if route != "stats"}  # that one has no cache
OPERATIONS = {
    *("get", "get_many", "has", "set", "set_many", "add", "inc", "dec", "delete", "delete_many"),
    *("clear", "lease", "replace", "store", "ping", "usage"),
}
#: What a user's requests say of her.
ALICE: list[dict[str, str]] = [
    {},
    {"Cookie": "user=alice"},
    {"Cookie": "session=alice"},
    {"Authorization": "Bearer alice"},
]
#: Makes each answer say which worker it is from, and which server that belongs to.
WHO = """
import os

from flask import Blueprint, Response

bp = Blueprint("who", __name__)


@bp.after_app_request
def say_who(response: Response) -> Response:
    response.headers["X-Worker"], response.headers["X-Server"] = str(os.getpid()), str(os.getppid())
    return response
"""


@pytest.fixture
def served(
    project: Callable[[Answers], Path], tmp_path: Path
) -> Callable[[str, tuple[str, ...]], Path]:
    """Return a project of its own for a backend and routes, whose answers say who gives them."""

    def served(backend: str, routes: tuple[str, ...] = tuple(ROUTES)) -> Path:
        copy = tmp_path / f"{backend} project"
        shutil.copytree(project(Answers(backend, routes)), copy)
        (copy / f"src/{SLUG}/routes/who.py").write_text(WHO)
        return copy

    return served


@contextmanager
def engine(backend: str, folder: Path) -> Iterator[dict[str, str]]:
    """Run the server that the backend needs; yield the environment that leads the app to it."""
    if backend != "redis":
        yield {}
        return
    with redis_server(folder) as (port, _):
        yield redis_env(port)


def port_of(url: str) -> int:
    """Return the port of a server."""
    return int(url.rpartition(":")[2])


def ask(port: int, pages: Iterable[str]) -> Counter[int]:
    """Ask for each page once, a few by each connection; return how many each worker answered."""
    answered: Counter[int] = Counter()
    asked = iter(pages)
    while batch := list(islice(asked, PER_CONNECTION)):
        with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as client:
            for page in batch:
                client.request("GET", page)
                answer = client.getresponse()
                answer.read()
                assert answer.status == (404 if page == "/user/99" else 200)
                answered[int(answer.headers["X-Worker"])] += 1
    return answered


def whose(port: int) -> tuple[int, int]:
    """Return a worker that answers now, and its server; (0, 0) if it was ended meanwhile."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as client:
        try:
            client.request("GET", "/healthz")
            answer = client.getresponse()
        except (OSError, HTTPException):
            return 0, 0
        return int(answer.headers["X-Worker"]), int(answer.headers["X-Server"])


def server_of(port: int) -> int:
    """Return the process that the workers belong to."""
    server = whose(port)[1]
    assert server > 1
    return server


def find_workers(port: int, number: int, but: Iterable[int] = ()) -> set[int]:
    """Return `number` workers that answer, as soon as there are as many besides those in `but`."""
    found: set[int] = set()

    def enough() -> bool:
        found.update({whose(port)[0]} - {0, *but})
        return len(found) == number

    wait_until(enough, f"{number} workers answer")
    return found


def is_alive(worker: int) -> bool:
    """Tell whether a process is there."""
    try:
        os.kill(worker, 0)
    except ProcessLookupError:
        return False
    return True


def samples(text: str, name: str) -> list[float]:
    """Return the values of a metric in a scrape."""
    return [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    ]


def lookups(port: int) -> int:
    """Return the look-ups of all caches in one scrape."""
    status, text = get(f"http://127.0.0.1:{port}/metrics")
    assert status == 200
    return int(sum(samples(text, "cache_gets_total")))


def lookups_by_slot(folder: Path) -> Counter[int]:
    """Return the look-ups in the file of each worker."""
    found: Counter[int] = Counter()
    for path in folder.glob("counter_*.db"):
        values = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
        for key, value, _, _ in values:
            if json.loads(key)[1] == "cache_gets_total":
                found[int(path.stem.rpartition("_")[2])] += int(value)
    return found


def slots(folder: Path) -> set[int]:
    """Return the slots that have files; there must be no others."""
    found = [path.stem.rpartition("_") for path in folder.iterdir() if path.name != "slots.lock"]
    assert {kind for kind, _, _ in found} <= KINDS
    return {int(slot) for _, _, slot in found}


@pytest.mark.parametrize(("backend", "requests"), [("redis", 3_000), ("disk", 1_200)])
def test_one_scrape_finds_each_look_up_of_each_worker(
    backend: str, requests: int, served: Callable[[str], Path], tmp_path: Path
) -> None:
    root = served(backend)
    with engine(backend, tmp_path) as env, make_serve(root, WORKERS, **env) as url:
        port = port_of(url)
        workers = find_workers(port, WORKERS)
        pages = [islice(cycle(PAGES), n, n + requests // CLIENTS) for n in range(CLIENTS)]
        with ThreadPoolExecutor(CLIENTS) as clients:
            answered = sum(clients.map(lambda own: ask(port, own), pages), Counter[int]())
        assert answered.total() == requests
        assert set(answered) == workers
        wait_until(lambda: lookups(port) == requests)
        by_slot = lookups_by_slot(root / f".metrics/{port}")
        assert set(by_slot) == set(range(WORKERS))
        assert sorted(by_slot.values()) == sorted(answered.values())


def test_a_killed_worker_is_replaced_by_one_that_counts_on(
    served: Callable[[str, tuple[str, ...]], Path],
) -> None:
    root = served("disk", ("hello",))
    with make_serve(root, WORKERS, GRANIAN_RESPAWN_INTERVAL="1") as url:
        port = port_of(url)
        folder = root / f".metrics/{port}"
        # In turn: Granian gives up if one ends twice within 5.5 s and no other between.
        workers = sorted(find_workers(port, WORKERS))
        asked = ask(port, ["/"] * 50)
        for _ in range(RESTARTS):
            # One that is killed loses the look-ups of its last second.
            wait_until(lambda: lookups(port) == asked.total())  # noqa: B023
            killed = workers.pop(0)
            os.kill(killed, signal.SIGKILL)
            workers += find_workers(port, 1, but=[killed, *workers])
            asked += ask(port, ["/"] * PER_CONNECTION)
            assert slots(folder) == set(range(WORKERS))
        wait_until(lambda: lookups(port) == lookups_by_slot(folder).total() == asked.total())

        # While one is replaced that has not failed, both are there, each with a slot of its own.
        os.kill(server_of(port), signal.SIGHUP)
        find_workers(port, WORKERS, but=workers)
        wait_until(lambda: not any(map(is_alive, workers)), "the old workers have ended")
        asked += ask(port, ["/"] * 50)
        wait_until(lambda: lookups(port) == lookups_by_slot(folder).total() == asked.total())
        assert slots(folder) <= set(range(WORKERS + 1))


def test_a_server_begins_with_nothing_of_those_before(
    served: Callable[[str, tuple[str, ...]], Path],
) -> None:
    """They are all killed, with their workers, so that none of them can clean up."""
    root, port = served("disk", ("hello",)), free_port()
    folder = root / f".metrics/{port}"
    for number in range(RESTARTS):
        # The first leaves files behind that the others do not write.
        with make_serve(root, 1 if number else WORKERS, PORT=str(port)):
            find_workers(port, 1 if number else WORKERS)
            ask(port, ["/"] * (number % 3 + 1))
            os.killpg(os.getpgid(server_of(port)), signal.SIGKILL)
        assert slots(folder) == set(range(1 if number else WORKERS))
    with make_serve(root, WORKERS, PORT=str(port)):
        assert lookups(port) == 0
        find_workers(port, WORKERS)
        ask(port, ["/"] * 7)
        wait_until(lambda: lookups(port) == 7)
        assert slots(folder) == set(range(WORKERS))
        # Another one on the same port fails, and takes nothing away.
        again = ["make", "serve", f"BIN={Path(sys.executable).parent}", f"PORT={port}"]
        env = os.environ | {"PYTHONPATH": str(root / "src")}
        done = subprocess.run(again, cwd=root, env=env, capture_output=True, text=True, check=False)
        assert f"Port {port} cannot be used" in done.stderr
        assert lookups(port) == 7


#: A process that counts, without a server: it evaluates what it reads, and prints what that gives.
PROCESS = f"""
import os, signal, sys, threading
from {SLUG} import create_app
from {SLUG}.caching import cache, events

app = create_app()


def visit(page, times=1, **headers):
    for _ in range(times):
        status = app.test_client(use_cookies=False).get(page, headers=headers).status_code
        assert status == (404 if page == "/user/99" else 200), (page, status)


def scrape():
    return app.test_client().get("/metrics", auth=("", "a")).text


def use(method, *keys):
    with app.app_context():
        for key in keys:
            getattr(cache, method)(*key)


def fill():
    app.test_cli_runner().invoke(args=["init-db"])


def fork(*visits):
    done, say_done = os.pipe()
    end, stay = os.pipe()
    for times in visits:
        if not os.fork():
            try:
                os.close(stay)
                visit("/", times)
                os.write(say_done, b"x")
                os.read(end, 1)  # until the parent ends
            finally:
                os._exit(0)
    for _ in visits:
        os.read(done, 1)


def fork_while_counting(children):
    end, counted = threading.Event(), []

    def count():
        while not end.is_set():
            events.put("here", "stored")
            counted.append("here")

    thread = threading.Thread(target=count)
    thread.start()
    for _ in range(children):
        child = os.fork()
        if not child:
            signal.alarm(10)  # ends a child that waits for a lock
            events.put("there", "stored")
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            counted.append("there")
    end.set()
    thread.join()
    return len(counted), counted.count("there")


def remember(user):
    def compute():
        return user

    with app.app_context():
        cache.get_or_set(user, compute)
        greet(user)


@cache.memoize()
def greet(user):
    return user


print(None, flush=True)
for line in sys.stdin:
    print(ascii(eval(line)), flush=True)
"""


class Process:
    """A process with a project's app, which does what it is told until it is killed."""

    def __init__(self, root: Path, folder: Path, **env: str) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK_", "PYTEST_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            cwd=folder,
            env={
                **clean,
                "PYTHONPATH": str(root / "src"),
                "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
                "FLASK_SECRET_KEY": "for tests",
                "FLASK_MONITORING_PASSWORD": "a",
                "FLASK_CACHE_DIR": str(folder / "cache"),
                "FLASK_DATABASE_URL": f"sqlite:///{folder}/app.sqlite3",
                **env,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.too_late = threading.Timer(60, self.process.kill)
        self.too_late.start()
        self._answer()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.too_late.cancel()
        self.process.kill()
        self.process.communicate()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the process has ended"
        return ast.literal_eval(line)

    def tell(self, function: str, *arguments: object, **named: object) -> Any:
        """Let it call a function of PROCESS; return what that gives."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{function}(*{arguments!r}, **{named!r})\n")
        self.process.stdin.flush()
        return self._answer()

    def write(self, entries: int) -> None:
        """Let it keep so many entries."""
        self.tell("use", "set", *((f"key {number}", number) for number in range(entries)))

    def sees(self, name: str) -> float:
        """Return the value of a metric without labels in what it shows to a scraper."""
        (value,) = samples(self.tell("scrape"), name)
        return value


def test_the_size_of_a_dead_worker_does_not_linger(
    project: Callable[[Answers], Path], tmp_path: Path
) -> None:
    root = project(Answers("memory", ("hello",)))
    with Process(root, tmp_path) as lives:
        lives.write(5)
        with Process(root, tmp_path) as dies:
            dies.write(3)
            assert lives.sees("cache_size") == 8
        assert lives.sees("cache_size") == 5
        with Process(root, tmp_path) as dies:
            dies.write(3)
        with Process(root, tmp_path) as successor:  # before anybody looks
            assert lives.sees("cache_size") == successor.sees("cache_size") == 5
            successor.write(2)
            assert lives.sees("cache_size") == successor.sees("cache_size") == 7
    assert slots(tmp_path / "metrics") == {0, 1}


def test_the_open_breaker_of_a_dead_worker_does_not_linger(
    project: Callable[[Answers], Path], tmp_path: Path
) -> None:
    root = project(Answers("redis", ("hello",)))
    nowhere = redis_env(free_port())
    with engine("redis", tmp_path) as env, Process(root, tmp_path, **env) as lives:
        lives.write(1)
        with Process(root, tmp_path, **nowhere) as dies:
            assert lives.sees("cache_breaker_open") == 0
            dies.write(10)
            assert lives.sees("cache_breaker_open") == dies.sees("cache_breaker_open") == 1
        assert lives.sees("cache_breaker_open") == 0
        assert lives.sees("cache_errors_total") > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_workers_that_are_forked_after_the_app_was_loaded_count_for_themselves(
    backend: str, project: Callable[[Answers], Path], tmp_path: Path
) -> None:
    root = project(Answers(backend, ("hello",)))
    with engine(backend, tmp_path) as env, Process(root, tmp_path, **env) as parent:
        parent.tell("visit", "/", 2)
        parent.tell("fork", 3, 5, 7)

        def seen() -> float:
            return sum(samples(parent.tell("scrape"), "cache_gets_total"))

        wait_until(lambda: seen() == 2 + 3 + 5 + 7)
        parent.tell("visit", "/", 11)
        assert seen() == 2 + 3 + 5 + 7 + 11
        by_slot = lookups_by_slot(tmp_path / "metrics")
        assert sorted(by_slot.values()) == [3, 5, 7, 2 + 11]
        assert set(by_slot) == slots(tmp_path / "metrics") == {0, 1, 2, 3}


def test_a_process_that_forks_while_one_of_its_threads_counts_loses_nothing(
    project: Callable[[Answers], Path], tmp_path: Path
) -> None:
    with Process(project(Answers("disk", ("hello",))), tmp_path) as parent:
        counted, children = parent.tell("fork_while_counting", 10)
        assert children == 10
        assert parent.sees("cache_puts_total") == counted
        assert slots(tmp_path / "metrics") == {0, 1}


def test_a_file_that_a_worker_is_just_making_does_not_disturb_a_scrape(
    project: Callable[[Answers], Path], tmp_path: Path
) -> None:
    with Process(project(Answers("disk", ("hello",))), tmp_path) as process:
        process.write(3)
        (tmp_path / "metrics/counter_1.db").touch()
        assert process.sees("cache_puts_total") == 3


def import_app(root: Path, cwd: Path, folder: str) -> "subprocess.CompletedProcess[str]":
    """Import a project in a process of its own; return what a look-up leaves in its metrics."""
    script = (
        f"from {SLUG} import create_app\n"
        "client = create_app({'SECRET_KEY': 'a', 'DEBUG': True}).test_client()\n"
        "client.get('/')\n"
        "print(client.get('/metrics').text)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(root / "src"), "PROMETHEUS_MULTIPROC_DIR": folder},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("folder", ["", "metrics", "not [a] *pattern?"])
def test_any_folder_will_do_and_none_is_left_behind_without_one(
    folder: str, project: Callable[[Answers], Path], tmp_path: Path
) -> None:
    done = import_app(project(Answers("memory", ("hello",))), tmp_path, folder)
    assert 'cache_gets_total{cache="hello.hello",result="miss"} 1.0' in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ([folder] if folder else [])


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_label_holds_a_path_a_query_a_key_or_a_user(
    backend: str, project: Callable[[Answers], Path], tmp_path: Path
) -> None:
    def browse(process: Process) -> None:
        for page in PAGES * 2:
            for headers in ALICE:
                process.tell("visit", page, **headers)
        process.tell("remember", "alice")
        process.tell("use", "set", ("alice", "abc"))
        process.tell("use", "get", ("alice",), ("xyz",))
        process.tell("use", "invalidate", ("alice",))

    root = project(Answers(backend, tuple(ROUTES)))
    with ExitStack() as stack:
        with engine(backend, tmp_path) as env:
            process = stack.enter_context(Process(root, tmp_path, **env))
            process.tell("fill")
            browse(process)
        browse(process)  # without Redis, so that it fails as well
        text: str = process.tell("scrape")
    found: dict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            for label, value in sample.labels.items():
                found[label].add(value)
    assert {float(limit) for limit in found.pop("le")} <= {
        *(float(f"{digit}e{power}") for digit in (1, 3) for power in range(-5, 2)),
        math.inf,
    }
    assert found.pop("operation") <= OPERATIONS
    assert found == {
        "cache": {*ENDPOINTS, "direct", "__main__.remember.<locals>.compute", "__main__.greet"},
        "result": {"hit", "miss"},
        "reason": {"authorization", "error"}
        | ({"not stored", "unavailable"} if backend == "redis" else set()),
    }
    for secret in ("abc", "xyz", "alice", "/user", "recent_posts?"):
        assert secret not in text
