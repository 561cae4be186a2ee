"""`flask cache`: the commands, and their exit codes."""

import json
import threading
from collections.abc import Iterator

import pytest
from click.testing import Result
from flask import Flask
from werkzeug.serving import make_server

from {{ cookiecutter.project_slug }}.caching import cache, events

from tests.conftest import Failing
from tests.monitoring.conftest import monitor


def run(app: Flask, *arguments: str, answer: str | None = None) -> Result:
    """Run `flask cache` with these arguments, and an answer to its question."""
    return app.test_cli_runner().invoke(args=["cache", *arguments], input=answer)


@pytest.fixture
def url(monitored: Flask) -> Iterator[str]:
    """Serve the app; return its address."""
    server = make_server("127.0.0.1", 0, monitored, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_stats_is_a_table_or_json(monitored: Flask) -> None:
    for result in ("hit", "hit", "hit", "miss"):
        events.lookup("tabulated", result)
    rows = run(monitored, "stats").stdout.splitlines()
    (row,) = [row for row in rows if row.startswith("tabulated ")]
    assert row.split()[:5] == ["tabulated", "3", "0", "1", "75.0%"]
    numbers = json.loads(run(monitored, "stats", "--json").stdout)
    assert "tabulated" in [one["name"] for one in numbers["caches"]]


def test_stats_asks_a_server_with_the_password_of_the_settings(monitored: Flask, url: str) -> None:
    events.lookup("served", "hit")
    done = run(monitored, "stats", "--json", "--url", url)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "served" in [one["name"] for one in json.loads(done.stdout)["caches"]]
    for wrong in (f"{url}/elsewhere", "http://[x"):
        assert run(monitored, "stats", "--url", wrong).exit_code == 1


@pytest.mark.parametrize("command", [["clear", "--yes"], ["invalidate", "t", "other"]])
def test_a_command_drops_entries_if_it_can_reach_them(
    monitored: Flask, after_clear: tuple[int, str | None], command: list[str]
) -> None:
    with monitored.app_context():
        cache.get_or_set("k", lambda: "v", tags=["t"])
    code = run(monitored, *command).exit_code
    with monitored.app_context():
        assert (code, cache.get("k")) == after_clear


def test_clear_asks_first_and_ping_shows_the_version(
    monitored: Flask, after_clear: tuple[int, str | None]
) -> None:
    with monitored.app_context():
        cache.set("k", "v")
        assert run(monitored, "clear", answer="n\n").exit_code in (1, after_clear[0])
        assert cache.get("k") == "v"
    done = run(monitored, "ping")
    assert (done.exit_code, "answered in" in done.stdout) == (after_clear[0], not after_clear[0])


@pytest.mark.parametrize("command", [["clear", "--yes"], ["invalidate", "t"]])
def test_a_drop_that_fails_is_an_error(
    bare: Flask, failing_type: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Failing, "shared", True, raising=False)  # so that a command may reach it
    app = monitor(bare, CACHE_TYPE=failing_type)
    Failing.fault = ConnectionError("refused")
    done = run(app, *command)
    assert (done.exit_code, done.stdout) == (1, "")
