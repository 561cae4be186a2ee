"""`flask cache stats`, and what every command owes to who calls it."""

import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask.cli import FlaskGroup
from flask_caching.backends import SimpleCache
from werkzeug.serving import make_server

from shop import create_app
from shop.caching import events
from tests.serving import free_port


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def run(app: Flask, *arguments: str, answer: str | None = None) -> Result:
    """Run `flask cache` with these arguments, and an answer to what it asks."""
    return app.test_cli_runner().invoke(args=["cache", *arguments], input=answer)


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """Serve the app while the block runs; give its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def look_up(name: str) -> None:
    """Let a cache of this name have had four hits, one of them stale, and a miss."""
    for result in ("hit", "hit", "hit", "stale", "miss"):
        events.lookup(name, result, 0.0005)
    events.load(name, "stored", 0.25)


# The numbers.


def test_stats_is_a_table_for_people(app: Flask) -> None:
    look_up("tabulated")
    done = run(app, "stats")
    assert done.exit_code == 0
    titles, *rows = done.stdout.splitlines()
    assert " ".join(titles.split()) == "cache hits stale misses hit rate a hit a miss saved"
    (row,) = [row for row in rows if row.startswith("tabulated ")]
    assert " ".join(row.split()) == "tabulated 3 1 1 80.0% 500 us 250.0 ms 998.0 ms"
    assert len(row) == len(titles)
    assert "--url" in done.stderr  # a server's numbers would be elsewhere


def test_what_is_not_known_is_a_dash_in_the_table(app: Flask) -> None:
    events.bypass("unknown", "session")
    (row,) = [one for one in run(app, "stats").stdout.splitlines() if one.startswith("unknown ")]
    assert " ".join(row.split()) == "unknown 0 0 0 - - - -"


def test_stats_is_json_for_scripts(app: Flask) -> None:
    look_up("scripted")
    done = run(app, "stats", "--json")
    assert done.exit_code == 0
    (one,) = [one for one in json.loads(done.stdout)["caches"] if one["name"] == "scripted"]
    assert (one["hits"], one["stale"], one["misses"], one["hit_rate"]) == (3, 1, 1, 0.8)


@pytest.mark.parametrize("change", [{"DEBUG": True}, {"MONITORING_PASSWORD": "pässwörd: 密"}])
def test_stats_asks_a_server(settings: dict[str, Any], change: dict[str, Any]) -> None:
    look_up("served")
    app = create_app(settings | change | {"DEBUG": False})
    with served(create_app(settings | change)) as url:
        for address in (url, f"{url}/"):
            done = run(app, "stats", "--json", "--url", address)
            assert (done.exit_code, done.stderr) == (0, "")
            (one,) = [one for one in json.loads(done.stdout)["caches"] if one["name"] == "served"]
            assert one["hits"] >= 2
        assert "\nserved " in run(app, "stats", "--url", url).stdout


def test_a_server_that_shows_nothing_is_an_error_that_says_what_to_do(
    app: Flask, settings: dict[str, Any]
) -> None:
    other = create_app(settings | {"MONITORING_PASSWORD": "another"})
    for server, status in ((app, "404"), (other, "401")):
        with served(server) as url:
            done = run(app, "stats", "--url", url)
        assert (done.exit_code, done.stdout) == (1, "")
        for word in (url, status, "FLASK_MONITORING_PASSWORD"):
            assert word in done.stderr
        assert "another" not in done.stderr
    gc.collect()  # an answer that nobody closed would warn


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "localhost", "http://[x", "http://h:p"])
def test_a_server_that_is_not_there_is_an_error_that_names_it(app: Flask, url: str) -> None:
    url = url.format(port=free_port())
    done = run(app, "stats", "--url", url)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {url} ")


def test_a_server_that_shows_something_else_is_an_error(settings: dict[str, Any]) -> None:
    app = create_app(settings)
    app.add_url_rule("/cache/stats", view_func=lambda: [1, 2])
    with served(app) as url:
        assert run(app, "stats", "--url", url).exit_code == 1


def stats_as_typed(settings: dict[str, Any], folder: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in a process of its own, where nothing is counted."""
    command = [sys.executable, "-m", "flask", "--app", create_app.__module__, "cache", "stats"]
    given = {f"FLASK_{name}": str(value) for name, value in settings.items()}
    given["PYTHONPATH"] = os.pathsep.join(one for one in sys.path if one)
    given["PROMETHEUS_MULTIPROC_DIR"] = folder
    done = subprocess.run(
        command, env=os.environ | given, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    return done


def test_stats_of_a_process_of_its_own_says_where_the_numbers_are(
    settings: dict[str, Any],
) -> None:
    done = stats_as_typed(settings, folder="")
    assert (done.returncode, done.stdout) == (3, "")
    assert "--url http://127.0.0.1:5000" in done.stderr
    assert "PROMETHEUS_MULTIPROC_DIR" in done.stderr


def test_stats_of_workers_that_have_counted_nothing_yet_are_none(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    done = stats_as_typed(settings, folder=str(tmp_path))
    assert done.returncode == 0
    assert done.stdout.startswith("cache  hits ")
    assert str(tmp_path) in done.stderr  # in case it is the wrong one


def test_a_folder_of_workers_that_cannot_be_used_is_a_wrong_setting(
    settings: dict[str, Any],
) -> None:
    done = stats_as_typed(settings, folder="/dev/null/metrics")
    assert (done.returncode, done.stdout) == (2, "")
    assert "PROMETHEUS_MULTIPROC_DIR cannot be used" in done.stderr
    assert "such as /tmp/metrics" in done.stderr


# What is wrong.


def flask(*arguments: str, **environment: str) -> Result:
    """Run `flask` as a new process would, with these variables."""
    kept = {"FLASK_RUN_FROM_CLI": "true", "FLASK_SECRET_KEY": "for tests"}
    group = FlaskGroup(create_app=create_app)
    return CliRunner().invoke(group, arguments, env=kept | environment)


@pytest.mark.parametrize("arguments", [("stats", "--no-such-option"), ("invalidate",), ("no",)])
def test_wrong_usage_exits_with_2(app: Flask, arguments: tuple[str, ...]) -> None:
    assert run(app, *arguments).exit_code == 2


@pytest.mark.parametrize("command", ["stats", "ping"])
def test_wrong_settings_exit_with_2_and_are_named_without_a_traceback(command: str) -> None:
    done = flask("cache", command, FLASK_CACHE_DEFAULT_TIMEOUT="soon", FLASK_CACHE_VERSION=" ")
    assert (done.exit_code, done.stdout) == (2, "")
    assert isinstance(done.exception, SystemExit)
    for word in ("FLASK_CACHE_DEFAULT_TIMEOUT", "soon", "FLASK_CACHE_VERSION", "What works: 2"):
        assert word in done.stderr


def test_wrong_settings_show_no_secret() -> None:
    done = flask(
        *("cache", "stats"),
        FLASK_SECRET_KEY="hush-1",
        FLASK_SECRET_KEY_FALLBACKS='["hush-2"',
        FLASK_MONITORING_PASSWORD="hush-3",
        FLASK_CACHE_MAX_PAGE_BYTES="0",
    )
    assert done.exit_code == 2
    assert "FLASK_SECRET_KEY_FALLBACKS" in done.stderr
    assert "hush" not in done.output


class Own(SimpleCache):
    """A backend of somebody's own, in memory."""


@pytest.mark.parametrize("backend", ["SimpleCache", f"{__name__}.Own"])
@pytest.mark.parametrize("arguments", [["clear", "--yes"], ["invalidate", "x"], ["ping"]])
def test_a_command_says_that_flask_cachings_own_memory_is_out_of_reach(
    settings: dict[str, Any], arguments: list[str], backend: str
) -> None:
    done = run(create_app(settings | {"CACHE_TYPE": backend}), *arguments)
    assert (done.exit_code, done.stdout) == (3, "")
    assert "restart the server" in done.stderr
