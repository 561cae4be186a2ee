"""Follows `GET /recent_posts` through the code of a generated project: `python -m tests.way`.

It counts, in the code below `src/<slug>/` only:

- functions: the code objects that are called, each once. Lambdas and generator expressions are code
  objects too, and so are comprehensions, before Python 3.12;
- files: the files of these functions;
- switches: the calls of a function in another file than the function called before it, and the
  first call.

The miss is the first request to a new app. The hit is the third request, since the second still
does work that is done once. The budget is for `redis`, without PROMETHEUS_MULTIPROC_DIR.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.baking import BACKENDS, ROUTES, Answers, bake_into
from tests.serving import redis_env, redis_server

#: Makes the app, asks three times, and prints each request's calls.
FOLLOW = """
import json, sys
from pathlib import Path
import shop
from shop.models import fill

folder = str(Path(shop.__file__).parent) + "/"
requests = []

def note(frame, event, _):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(folder):
        file = code.co_filename.removeprefix(folder)
        requests[-1].append((file, code.co_firstlineno, code.co_qualname, id(code)))

app = shop.create_app()
with app.app_context():
    fill()
client = app.test_client()
for wanted in ("fwd=miss; stored", "hit", "hit"):
    requests.append([])
    sys.setprofile(note)
    answer = client.get("/recent_posts")
    sys.setprofile(None)
    assert wanted in answer.headers["Cache-Status"], answer.headers
print(json.dumps(requests))
"""


class Call(NamedTuple):
    """A call of a function."""

    file: str
    line: int
    function: str
    #: Tells two comprehensions of one line apart.
    code: int


class Way(NamedTuple):
    """How far a request goes."""

    functions: int
    files: int
    switches: int


#: The longest ways that will do.
BUDGET = {"hit": Way(22, 7, 12), "miss": Way(50, 11, 35)}


def follow(backend: str) -> dict[str, list[Call]]:
    """Bake a project and return the calls of a hit and of a miss."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="way-")))
        project = bake_into(folder, Answers(backend, tuple(ROUTES)))
        outside = ("FLASK_", "PROMETHEUS_")
        env = {name: it for name, it in os.environ.items() if not name.startswith(outside)}
        env |= {
            "PYTHONPATH": str(project / "src"),
            "FLASK_SECRET_KEY": "a secret of the tests",
            "FLASK_DATABASE_URL": f"sqlite:///{folder}/app.sqlite3",
        }
        if backend == "redis":
            env |= redis_env(stack.enter_context(redis_server(folder))[0])
        elif backend == "disk":
            env["FLASK_CACHE_DIR"] = str(folder / "cache")
        command = [sys.executable, "-c", FOLLOW]
        done = subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.PIPE)
    miss, _, hit = json.loads(done.stdout)
    return {"hit": [Call(*call) for call in hit], "miss": [Call(*call) for call in miss]}


def measure(calls: list[Call]) -> Way:
    """Return how far these calls go."""
    files = [call.file for call in calls]
    switches = sum(one != other for one, other in zip(["", *files], files, strict=False))
    return Way(len(set(calls)), len(set(files)), switches)


def report(backend: str, verbose: bool = False) -> str:
    """Return a table of a hit's and a miss's way beside their budgets."""
    lines = [f"{'GET /recent_posts, ' + backend:<30}{'functions':>14}{'files':>14}{'switches':>14}"]
    for name, calls in follow(backend).items():
        way = measure(calls)
        parts = [f"{n} of {most}" for n, most in zip(way, BUDGET[name], strict=True)]
        lines.append(f"{name:<30}" + "".join(f"{part:>14}" for part in parts))
        if verbose:
            lines += [f"    {call.file}:{call.line} {call.function}" for call in calls]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backend", nargs="?", default="redis", choices=BACKENDS)
    parser.add_argument("-v", "--verbose", action="store_true", help="list the calls")
    given = parser.parse_args()
    print(report(given.backend, given.verbose))
