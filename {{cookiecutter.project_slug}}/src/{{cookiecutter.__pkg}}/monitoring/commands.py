"""`flask cache`: the cache's numbers and its maintenance, for people and scripts.

Exit codes: 0 done; 1 the backend or the server is unavailable, or you said no; 2 wrong usage or
settings; 3 the numbers or entries are in the memory of other processes.
"""

import json
import time
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import click
from flask import current_app
from flask.cli import AppGroup
from flask_caching.backends import SimpleCache
from werkzeug.datastructures import Authorization

from ..caching import cache
from . import report, usage, workers

cache_group = AppGroup("cache", help="Look after the cache.")


class ElsewhereError(click.ClickException):
    """The numbers or entries are in the memory of other processes."""

    exit_code = 3


def _shared_backend() -> Any:
    """Return the backend. Raises ElsewhereError if it is in the memory of each process."""
    backend = usage.backend_of(current_app)
    # Flask-Caching's backends do not say whether processes share them.
    if not getattr(backend, "shared", not isinstance(backend, SimpleCache)):
        raise ElsewhereError(
            "The cache is in the memory of the server. To drop everything, restart the server; to "
            "drop a tag, call cache.invalidate() in the app; for numbers: flask cache stats --url"
        )
    return backend


@cache_group.command("stats")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--url", help="Ask the server there, such as http://127.0.0.1:5000.")
def show(as_json: bool, url: str | None) -> None:
    """Show the hits, costs and savings of each cache."""
    numbers = _ask(url) if url else report.read()
    if not url and not (numbers["caches"] and workers.slots):
        note = (
            f"The numbers of {workers.slots.folder if workers.slots else 'this process'}. For a "
            "server's: --url http://127.0.0.1:5000, or its folder as PROMETHEUS_MULTIPROC_DIR."
        )
        if not numbers["caches"] and not workers.slots:
            raise ElsewhereError(f"Nothing was counted. {note}")
        click.echo(note, err=True)
    click.echo(json.dumps(numbers, indent=2) if as_json else _table(numbers))


def _table(numbers: dict[str, Any]) -> str:
    rows = [("cache", "hits", "stale", "misses", "hit rate", "a hit", "a miss", "saved")]
    for one in numbers["caches"]:
        counts = (f"{one[count]:,}" for count in ("hits", "stale", "misses"))
        rate = "-" if one["hit_rate"] is None else f"{one['hit_rate']:.1%}"
        times = (_time(one[f"{of}_seconds"]) for of in ("hit", "load", "saved"))
        rows.append((one["name"], *counts, rate, *times))
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = ["  ".join([row[0].ljust(first), *map(str.rjust, row[1:], others)]) for row in rows]
    totals = (name for name in ("size", *report.TOTALS) if numbers[name] is not None)
    lines += ["", ", ".join(f"{name} {numbers[name]:,}" for name in totals)]
    if numbers["breaker_open"]:
        lines.append("The breaker is open: the backend fails and is not used.")
    return "\n".join(lines)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds >= 1:
        return f"{seconds:,.1f} s"
    return f"{1e3 * seconds:.1f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.0f} us"


def _ask(url: str) -> dict[str, Any]:
    """Return the numbers of the server at `url`, and send the password to it alone."""
    if "@" in url:
        raise click.UsageError("--url takes no password: set FLASK_MONITORING_PASSWORD instead.")
    password = current_app.config["MONITORING_PASSWORD"]
    login = Authorization("basic", {"username": "", "password": password})
    try:
        request = Request(f"{url.rstrip('/')}/cache/stats")
        request.add_unredirected_header("Authorization", login.to_header())
        with build_opener(ProxyHandler({})).open(request, timeout=5) as answer:  # by no proxy
            numbers = json.load(answer)
        if not isinstance(numbers, dict) or "caches" not in numbers:
            raise ValueError("the answer is not the numbers of a cache")
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()
        hint = "Is it in debug mode, or its FLASK_MONITORING_PASSWORD the same as here?"
        raise click.ClickException(f"{url} does not show its numbers: {error}. {hint}") from error
    return numbers


@cache_group.command()
@click.confirmation_option(prompt="Drop every cached entry of this app?")
def clear() -> None:
    """Drop every entry of this app."""
    _shared_backend()
    if not cache.clear():
        raise click.ClickException("The cache's backend is unavailable: entries may remain.")
    click.echo("Every entry of this app was dropped.")


@cache_group.command()
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
def invalidate(tags: tuple[str, ...]) -> None:
    """Make every entry with one of the tags a miss."""
    _shared_backend()
    if current_app.debug:
        raise ElsewhereError(
            "In debug mode each process has its own keys, and those of a server are not known "
            "here. Drop everything with: flask cache clear --yes"
        )
    if not cache.invalidate(*tags):
        raise click.ClickException("The cache's backend is unavailable: nothing was invalidated.")
    click.echo(f"Every entry tagged {' or '.join(tags)} is a miss from now on.")


@cache_group.command()
def ping() -> None:
    """Ask the backend for its address and version, and show how long it took."""
    backend = _shared_backend()
    if not hasattr(backend, "ping"):
        raise ElsewhereError(f"{type(backend).__name__} cannot be pinged.")
    began = time.perf_counter()
    try:
        address, version = backend.ping()
    except Exception as error:  # any that its engine raises
        raise click.ClickException(f"The cache's backend is unavailable: {error}") from error
    took = 1000 * (time.perf_counter() - began)
    click.echo(f"{address} answered in {took:.1f} ms: {version}")
