"""The cost of a hit by layer, in process and without a server's work in it."""

import functools
import gc
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.event import listen
from werkzeug.test import create_environ

from .apps import PATIENT, answer, our_app, settings, stock_app, unmonitored
from .measuring import Row, seconds_each, taken
from .run import Run
from .servers import UNMONITORED, engine

HITS = 200
#: Each layer: the app, and the page.
LAYERS = {
    "a plain Flask view": ("stock", "/plain"),
    "ours, neither tagged nor monitored": (UNMONITORED, "/untagged"),
    "ours, tagged": (UNMONITORED, "/recent_posts"),
    "ours, tagged and monitored": ("ours", "/recent_posts"),
}
STOCK = ("stock", "/recent_posts")


def measure(run: Run) -> Iterator[Row]:
    """Return the rows of all layers on `memory`, and of the whole on the other backends."""
    for backend in ("memory", "disk", "redis"):
        names = list(LAYERS) if backend == "memory" else list(LAYERS)[-1:]
        run.say(f"layers, {backend}")
        with ExitStack() as stack:
            url = stack.enter_context(engine(run, backend))
            # Each app in a process of its own: none is built twice, and monitoring stays out.
            kinds = {LAYERS[name][0] for name in names} | {"stock"}
            calls = {kind: stack.enter_context(run.process(backend)) for kind in sorted(kinds)}
            rounds = [
                partial(calls[kind], hit, kind, path, backend, url)
                for kind, path in [*(LAYERS[name] for name in names), STOCK]
            ]
            *figures, stock = taken(*rounds, rounds=run.some(31, 5))
        for name, seconds in zip(names, figures, strict=True):
            target = "<= 1" if name == names[-1] else ""
            name = f"a hit in process, `{backend}`: {name}"
            chief = bool(target) and backend == "memory"
            yield Row(name, seconds, "stock", stock, target=target, chief=chief)


def hit(kind: str, path: str, backend: str, url: str) -> float:
    """Return the seconds that a hit takes in this process."""
    app, queries = _app(kind, backend, url)
    environ = create_environ(path, "http://shop.example.com")
    page = answer(app, environ)
    gc.freeze()  # so that it is quick to collect garbage before each round
    computed = len(queries)
    seconds = seconds_each(partial(answer, app), [environ] * HITS)
    if answer(app, environ) != page or len(queries) != computed:
        raise AssertionError(f"{path} of {kind} is no hit")
    return seconds


@functools.cache
def _app(kind: str, backend: str, url: str) -> tuple[Flask, list[object]]:
    """Make the app of this process; give it with the list of all queries of its database."""
    ours, stock = settings(backend, Path(tempfile.mkdtemp(dir=Path.cwd().parents[1])), url)
    if kind == "stock":
        app, _ = stock_app(stock)
    else:
        app = unmonitored(ours | PATIENT) if kind == UNMONITORED else our_app(ours | PATIENT)[0]
    queries: list[object] = []
    listen(Engine, "before_cursor_execute", lambda *it: queries.append(it[2]))
    return app, queries
