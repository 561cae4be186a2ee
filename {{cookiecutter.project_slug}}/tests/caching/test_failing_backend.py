"""A failing backend is a miss, and never an error."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from {{ cookiecutter.project_slug }}.caching.cache import Cache

from tests.conftest import Failing, wait_until

REFUSED, SILENT = ConnectionError("refused"), TimeoutError("silent")


@pytest.fixture
def frail(bare: Flask, failing_type: str) -> Iterator[Cache]:
    """Return a cache whose backend fails while `Failing.fault` is set."""
    bare.config["CACHE_TYPE"] = failing_type
    with bare.app_context():
        yield Cache(bare)


def recover() -> None:
    """Let the backend work again; return when the breaker has closed."""
    Failing.fault = None
    wait_until(lambda: Failing.breaker[-1] == "closed")


@pytest.mark.parametrize("fault", [REFUSED, SILENT], ids=str)
@pytest.mark.parametrize("debug", [False, True])
def test_each_operation_returns_the_value_of_a_miss(
    frail: Cache, bare: Flask, fault: Exception, debug: bool
) -> None:
    bare.debug = debug
    Failing.fault = fault
    for _ in range(3):
        assert frail.get("k") is None
        assert frail.get_many("k", "l") == [None, None]
        assert not frail.has("k")
        assert not frail.set("k", "v")
        assert frail.set_many({"k": "v"}) == []
        assert not frail.add("k", "v")
        assert frail.inc("n") is None
        assert frail.get_or_set("k", lambda: "computed", tags=["t"]) == "computed"
        assert not frail.delete("k")
        assert frail.delete_many("k") == []
        assert not frail.invalidate("t")
        assert not frail.clear()


def test_a_page_is_answered_while_the_backend_fails(frail: Cache, bare: Flask) -> None:
    bare.add_url_rule("/page", "page", frail.cached()(lambda: "page"))
    Failing.fault = SILENT
    assert [bare.test_client().get("/page").text for _ in range(5)] == ["page"] * 5


def test_the_breaker_opens_on_a_timeout_at_once(frail: Cache) -> None:
    Failing.fault = SILENT
    frail.get("k")
    assert Failing.breaker == ["open"]


def test_while_the_breaker_is_open_only_its_probe_asks_the_backend(frail: Cache) -> None:
    Failing.fault = SILENT
    frail.get("k")
    Failing.asked.clear()
    for _ in range(100):
        frail.get("k")
    wait_until(lambda: bool(Failing.asked))
    assert "get" not in Failing.asked


def test_the_breaker_closes_and_the_entries_are_still_there(frail: Cache, caplog: Any) -> None:
    frail.set("k", "v")
    Failing.fault = SILENT
    assert frail.get("k") is None
    recover()
    assert frail.get("k") == "v"
    assert Failing.breaker == ["open", "closed"]
    assert len(caplog.messages) == 2  # one line for each change


@pytest.mark.parametrize("drop", ["delete", "delete_many", "invalidate", "clear"])
@pytest.mark.parametrize("before", [0, 3], ids=["closed", "open"])
def test_an_undelivered_drop_returns_false_and_clears_the_cache_before_its_next_use(
    frail: Cache, drop: str, before: int
) -> None:
    frail.get_or_set("k", lambda: "old", tags=["t"])
    Failing.fault = REFUSED
    for _ in range(before):
        frail.get("k")
    assert not getattr(frail, drop)(*{"clear": [], "invalidate": ["t"]}.get(drop, ["k"]))
    recover()
    assert frail.get_or_set("k", lambda: "new", tags=["t"]) == "new"
