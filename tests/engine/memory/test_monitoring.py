"""Monitoring of a backend in the memory of one process, which no command can see."""

from typing import Any

import pytest
from flask import Flask

from shop import create_app
from shop.caching import cache as app_cache
from tests.engine.monitoring.test_commands import run
from tests.engine.monitoring.test_metrics import growth, scrape

pytestmark = pytest.mark.usefixtures("clock")  # so that nothing expires meanwhile


@pytest.mark.parametrize("arguments", [["clear", "--yes"], ["invalidate", "x"], ["ping"]])
def test_a_command_says_that_it_cannot_reach_the_memory_of_the_server(
    app: Flask, arguments: list[str]
) -> None:
    with app.app_context():
        app_cache.set("k", "v")
    done = run(app, *arguments)
    assert (done.exit_code, done.stdout) == (3, "")
    for word in ("memory", "restart the server", "cache.invalidate()", "flask cache stats --url"):
        assert word in done.stderr
    with app.app_context():
        assert app_cache.get("k") == "v"


def test_size_and_evictions_follow_what_is_stored(settings: dict[str, Any]) -> None:
    app = create_app(settings | {"CACHE_THRESHOLD": 3})
    grown = growth(app)

    def size() -> float:
        return scrape(app)["cache_size", ()]

    with app.app_context():
        for number in range(5):
            app_cache.get_or_set(f"k{number}", lambda: "v")
            assert size() == min(number + 1, 3)
        assert grown("cache_evictions_total") == {(): 2}
        app_cache.set("k5", "v")
        assert grown("cache_evictions_total") == {(): 3}
        app_cache.delete("k5")
        assert size() == 2
        app_cache.delete_many("k4")
        assert size() == 1
        app_cache.clear()
        assert size() == 0
        assert grown("cache_evictions_total") == {(): 3}
