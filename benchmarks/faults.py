"""The ways in which a cache's engine fails."""

import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from .servers import Server

#: After so many seconds a silent server is killed, even if clients still wait for it.
GIVE_UP = 30
#: Keeps a database from being written to until its input ends, at most for a minute.
LOCK = """
import select, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
select.select([sys.stdin], [], [], 60)
"""


class Engine(NamedTuple):
    """What a fault happens to: the folder with our files and stock's, or a server."""

    folder: Path
    server: Server | None
    #: What ends the fault, at the end.
    stack: ExitStack


def silent(engine: Engine) -> None:
    """Stop the server: the machine accepts its connections, and it never answers."""
    assert engine.server is not None
    engine.server.process.send_signal(signal.SIGSTOP)
    timer = threading.Timer(GIVE_UP, engine.server.process.kill)
    timer.start()
    engine.stack.callback(timer.cancel)


def killed(engine: Engine) -> None:
    """Kill the server: what connects to its port is refused."""
    assert engine.server is not None
    engine.server.process.kill()
    engine.server.process.wait()


def deleted(engine: Engine) -> None:
    """Delete every file of the caches."""
    for path in engine.folder.glob("*/*"):
        path.unlink()


def locked(engine: Engine) -> None:
    """Let another process hold the database as one that writes does."""
    command = [sys.executable, "-c", LOCK, str(engine.folder / "ours" / "cache.sqlite3")]
    pipe = subprocess.PIPE
    other = engine.stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe))
    assert other.stdout is not None
    if not other.stdout.readline():
        raise RuntimeError("the other process could not lock the database")
