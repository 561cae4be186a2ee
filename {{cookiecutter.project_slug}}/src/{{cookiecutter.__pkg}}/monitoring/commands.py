"""`flask cache`: the cache's numbers and its maintenance, for people and scripts.

Exit codes: 0 done, 1 the cache or the server is out of reach or you said no, 2 wrong usage or
settings, 3 what is asked for is in the memory of other processes, where no command can see it.
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
from . import report, workers

cache_group = AppGroup("cache", help="Look after the cache.")


class OutOfSightError(click.ClickException):
    """What is asked for cannot be seen from here."""

    exit_code = 3


def _shared_backend() -> Any:
    """Return the backend itself, if what it holds is not in the memory of other processes."""
    backend = current_app.extensions["cache"][cache]
    while hasattr(backend, "backend"):  # what stands around it
        backend = backend.backend
    # Flask-Caching's do not say whether processes share them.
    if not getattr(backend, "shared", not isinstance(backend, SimpleCache)):
        raise OutOfSightError(
            "The cache is in the memory of each server process, where this command cannot reach "
            "it. To drop everything, restart the server; to drop a tag, call cache.invalidate() "
            "in the app; for numbers: flask cache stats --url http://127.0.0.1:5000"
        )
    return backend


@cache_group.command("stats")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--url", help="Ask the server there, such as http://127.0.0.1:5000.")
def show(as_json: bool, url: str | None) -> None:
    """Show what each cache hits, costs and saves."""
    numbers = _ask(url) if url else report.read()
    if not url:
        own = "these are the numbers of this command's own process, a server's are in its memory"
        found = f"these are the numbers in {workers.FOLDER}" if workers.FOLDER else own
        hint = (
            f"Note: {found}. To ask a server: --url http://127.0.0.1:5000. Or let "
            "PROMETHEUS_MULTIPROC_DIR name the folder that its workers count in."
        )
        if not numbers["caches"] and not workers.FOLDER:
            raise OutOfSightError(f"Nothing was counted. {hint}")
        if not numbers["caches"] or not workers.FOLDER:
            click.echo(hint, err=True)
    click.echo(json.dumps(numbers, indent=2) if as_json else _table(numbers))


def _table(numbers: dict[str, Any]) -> str:
    titles = "cache", "hits", "stale", "misses", "hit rate", "a hit", "a miss", "saved"
    rows = [titles]
    for one in numbers["caches"]:
        counts = (f"{one[count]:,}" for count in ("hits", "stale", "misses"))
        rate = "-" if one["hit_rate"] is None else f"{one['hit_rate']:.1%}"
        times = (_time(one[f"{of}_seconds"]) for of in ("hit", "load", "saved"))
        rows.append((one["name"], *counts, rate, *times))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join((row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:]))) for row in rows
    ]
    totals = ("puts", "size", "evictions", "errors", "corrupt")
    lines += ["", ", ".join(f"{n} {numbers[n]:,}" for n in totals if numbers[n] is not None)]
    if numbers["breaker_open"]:
        lines.append("The breaker is open: the backend fails and is left alone.")
    return "\n".join(lines)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds * 1e6:,.0f} us"


def _ask(url: str) -> dict[str, Any]:
    """Return the numbers of the server at `url`, with our password."""
    password = current_app.config["MONITORING_PASSWORD"]
    if "@" in url:
        raise click.UsageError("The password for --url is FLASK_MONITORING_PASSWORD, not in it.")
    try:
        request = Request(f"{url.rstrip('/')}/cache/stats")
        if password:  # for that server alone, wherever it may redirect to
            login = Authorization("basic", {"username": "monitoring", "password": password})
            request.add_unredirected_header("Authorization", login.to_header())
        # Past any proxy, which would be given the password.
        with build_opener(ProxyHandler({})).open(request, timeout=5) as answer:
            numbers = json.load(answer)
        if not isinstance(numbers, dict) or "caches" not in numbers:
            raise ValueError("its answer is something else")
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise click.ClickException(
            f"{url} does not show its numbers: {error}. A server does in debug, or to those who "
            "have the same FLASK_MONITORING_PASSWORD in their settings."
        ) from error
    return numbers


@cache_group.command()
@click.option("--yes", is_flag=True, help="Do not ask whether to.")
def clear(yes: bool) -> None:
    """Drop every entry of this app."""
    _shared_backend()
    if not yes:
        click.confirm("Drop every cached entry of this app?", abort=True)
    if not cache.clear():
        raise click.ClickException("The cache is out of reach: not everything was dropped.")
    click.echo("Every entry of this app is dropped.")


@cache_group.command()
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
def invalidate(tags: tuple[str, ...]) -> None:
    """Make every entry with one of the tags a miss."""
    _shared_backend()
    if current_app.debug:
        raise OutOfSightError(
            "In debug each process has keys of its own, so this command's are not the server's. "
            "Drop everything with: flask cache clear --yes"
        )
    if not cache.invalidate(*tags):
        raise click.ClickException("The cache is out of reach: nothing was invalidated.")
    click.echo(f"Every entry tagged {' or '.join(tags)} is a miss from now on.")


@cache_group.command()
def ping() -> None:
    """Ask the cache's backend whether it is there, and show how long that took."""
    backend = _shared_backend()
    if not hasattr(backend, "ping"):
        raise OutOfSightError(f"{type(backend).__name__} does not tell whether it is there.")
    began = time.perf_counter()
    try:
        address, version = backend.ping()
    except Exception as error:  # whatever its engine raises
        raise click.ClickException(f"The cache is out of reach: {error}") from error
    took = time.perf_counter() - began
    click.echo(f"{address} answered in {1000 * took:.1f} ms: {version}")
