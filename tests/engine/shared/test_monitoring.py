"""Monitoring of a backend that processes share: commands reach it, and a scrape asks it."""

import re
from typing import Any

import pytest
from flask import Flask

from shop import create_app
from shop.caching import cache as app_cache
from tests.engine.inside import backend_of
from tests.engine.monitoring.test_commands import run
from tests.engine.monitoring.test_metrics import faulty, growth, scrape

pytestmark = pytest.mark.usefixtures("clock")  # so that nothing expires meanwhile


@pytest.fixture
def stored(app: Flask) -> Flask:
    """Return the app with two entries, each with a tag of its own."""
    with app.app_context():
        app_cache.get_or_set("a", lambda: "old", tags=["x"])
        app_cache.get_or_set("b", lambda: "old", tags=["y"])
    return app


def values(app: Flask) -> list[Any]:
    with app.app_context():
        return app_cache.get_many("a", "b")


@pytest.mark.parametrize("answer", [None, "", "n\n"])
def test_clear_drops_nothing_unless_it_is_told_to(stored: Flask, answer: str | None) -> None:
    assert run(stored, "clear", answer=answer).exit_code == 1
    assert values(stored) == ["old", "old"]


@pytest.mark.parametrize(("arguments", "answer"), [(["--yes"], None), ([], "y\n")])
def test_clear_drops_every_entry(stored: Flask, arguments: list[str], answer: str | None) -> None:
    done = run(stored, "clear", *arguments, answer=answer)
    assert (done.exit_code, done.stderr) == (0, "")
    assert values(stored) == [None, None]


def test_invalidate_makes_the_entries_with_a_tag_a_miss(stored: Flask) -> None:
    done = run(stored, "invalidate", "x", "z")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "x or z" in done.stdout
    assert values(stored) == [None, "old"]


def test_invalidate_does_not_claim_to_reach_a_server_in_debug(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASK_DEBUG", "1")
    done = run(create_app(settings), "invalidate", "x")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "flask cache clear --yes" in done.stderr


def test_ping_shows_the_address_the_round_trip_and_the_version(app: Flask) -> None:
    done = run(app, "ping")
    assert (done.exit_code, done.stderr) == (0, "")
    with app.app_context():
        address, version = backend_of(app_cache).ping()
    shown = rf"{re.escape(address)} answered in \d+\.\d ms: {re.escape(version)}\n"
    assert re.fullmatch(shown, done.stdout)
    assert re.search(r"\d+\.\d+", version)


@pytest.mark.parametrize("arguments", [["clear", "--yes"], ["invalidate", "x"], ["ping"]])
def test_a_cache_out_of_reach_is_said_with_1(app: Flask, arguments: list[str]) -> None:
    with faulty(app, ConnectionError("refused")):
        done = run(app, *arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: The cache's backend is unavailable: ")


def test_size_and_evictions_are_asked_for_at_each_scrape(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with app.app_context():
        backend = app_cache.cache
    for size, evicted in ((5, 2), (3, 7)):
        monkeypatch.setattr(backend, "usage", lambda found=(size, evicted): found)
        found = scrape(app)
        assert found["cache_size", ()] == size
        assert found["cache_evictions_total", ()] == evicted


def test_a_backend_out_of_reach_has_no_size(app: Flask) -> None:
    with faulty(app, ConnectionError("refused")):
        names = {name for name, _ in scrape(app)}
    assert "cache_puts_total" in names
    assert not names & {"cache_size", "cache_evictions_total"}


def test_a_value_that_does_not_verify_is_counted_and_a_miss(
    app: Flask, settings: dict[str, Any]
) -> None:
    with create_app(settings | {"SECRET_KEY": "guessed"}).app_context():
        app_cache.set("k", "planted")
    grown = growth(app)
    with app.app_context():
        assert app_cache.get("k") is None
    assert grown("cache_corrupt_total") == {(): 1}
    assert grown("cache_gets_total") == {("direct", "miss"): 1}
