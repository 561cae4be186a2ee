"""The table "The article's line, and ours" in the README: each line, in stock and here."""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask_caching
import pytest
from flask import Flask, abort, request
from flask_caching.backends import FileSystemCache
from werkzeug.utils import ImportStringError

from shop import create_app
from shop.caching import LRUCache
from shop.caching.cache import Cache
from shop.models import Post
from shop.routes.daily_stats import until_midnight
from shop.settings import SettingsError
from tests.engine.fixtures import Clock

SHOWN: set[str] = set()


def article(line: str) -> Callable[[Any], Any]:
    """Mark a test as that of a row of the table, by the row's beginning."""
    SHOWN.add(line)
    return lambda test: test


@pytest.fixture
def stock() -> Any:
    """Return Flask-Caching as tutorials set it up."""
    app = Flask("stock")
    return flask_caching.Cache(app, config={"CACHE_TYPE": "SimpleCache"})


def visit(cache: Any, rule: str, view: Any, *paths: str, **options: Any) -> list[str]:
    """Return the answers to these paths, in this order, of a cached view."""
    cache.app.add_url_rule(rule, "view", cache.cached(**options)(view))
    return [cache.app.test_client().get(path).text for path in paths]


def test_every_line_of_the_table_is_shown() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    section = readme.partition("## The article's line, and ours")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \|", section, re.MULTILINE)[1:]
    assert len(rows) == len(SHOWN)
    assert all(any(row.startswith(line) for row in rows) for line in SHOWN)


@article('`CACHE_TYPE: "simple"`')
@article('`CACHE_TYPE: "filesystem"`')
@article('`CACHE_TYPE: "redis"`')
@pytest.mark.parametrize("name", ["simple", "filesystem", "redis"])
def test_short_types_are_gone_and_here_nothing_need_be_written(name: str, settings: Any) -> None:
    with pytest.raises(ImportStringError):
        flask_caching.Cache(Flask("stock"), config={"CACHE_TYPE": name})
    assert create_app(settings)
    with pytest.raises(SettingsError, match=r"FLASK_CACHE_TYPE: .*What works: "):
        create_app({**settings, "CACHE_TYPE": name})


@article("`CACHE_DIR")
def test_clear_of_stock_deletes_files_of_others_and_ours_leaves_them(
    cache: Cache, tmp_path: Path
) -> None:
    folder = Path(getattr(cache.app, "instance_path", tmp_path)) / "cache"
    folder.mkdir(exist_ok=True)
    (folder / "notes.txt").write_text("mine")
    cache.set("k", "v")
    cache.clear()
    assert (folder / "notes.txt").read_text() == "mine"
    FileSystemCache(str(folder)).clear()
    assert not (folder / "notes.txt").exists()


@article("`CACHE_DEFAULT_TIMEOUT")
def test_the_default_timeout_works(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_CACHE_DEFAULT_TIMEOUT", "77")
    assert create_app(settings).config["CACHE_DEFAULT_TIMEOUT"] == 77


@article("`@cache.cached(timeout=60)`")
def test_cached_keeps_errors_and_ignores_the_query_and_ours_does_not(
    stock: Any, cache: Cache
) -> None:
    def view() -> str:
        return abort(404) if "gone" in request.args else request.query_string.decode()

    paths = ["/?a", "/?b", "/?gone", "/?a"]
    assert visit(stock, "/", view, *paths, timeout=60) == ["a", "a", "a", "a"]
    answers = visit(cache, "/", view, *paths, timeout=60)
    assert [answers[n] for n in (0, 1, 3)] == ["a", "b", "a"]
    assert "404" in answers[2]


@article('`key_prefix="user"`')
def test_key_prefix_gives_everyone_the_first_page_and_here_it_does_not(
    stock: Any, cache: Cache
) -> None:
    asked: Any = ("/user/<name>", lambda name: name, "/user/1", "/user/2")
    assert visit(stock, *asked, key_prefix="user") == ["1", "1"]
    assert visit(cache, *asked, key_prefix="user") == ["1", "2"]


@article("`timeout=86400`")
def test_a_day_is_not_until_midnight(
    cache: Cache, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed at 8:00, the day's data would be served until 7:59 of the next day."""
    monkeypatch.setattr("shop.routes.daily_stats.cache", cache)
    days: list[float] = []
    timeouts: dict[str, Any] = {"article": 86400, "here": until_midnight}
    for hours in (0, 15, 2):  # 8:00, 23:00 and 1:00
        clock.forward(3600 * hours)
        for name, timeout in timeouts.items():
            days.append(cache.get_or_set(name, lambda: clock.now // 86400, timeout=timeout))
    first = days[0]
    assert days == [first, first, first, first, first, first + 1]


@article("`if value is None:`")
def test_none_is_computed_again_and_here_it_is_kept(stock: Any, cache: Cache) -> None:
    computed: list[str] = []
    for _ in range(2):
        with stock.app.app_context():
            if stock.get("k") is None:
                computed.append("article")
                stock.set("k", None)
        with cache.app.app_context():
            cache.get_or_set("k", lambda: computed.append("here"))
    assert computed == ["article", "here", "article"]


class Meets(str):
    """A key that lets another thread delete it just before it is found."""

    __slots__ = ("thread",)
    thread: threading.Thread | None

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)

    def __hash__(self) -> int:
        thread, self.thread = self.thread, None
        if thread:
            thread.start()
            thread.join(0.1)  # ours makes it wait for the lock
        return hash(str(self))


@article("an `OrderedDict` as an LRU")
def test_threads_break_an_ordered_dict_and_not_the_lru() -> None:
    textbook, ours, met = OrderedDict(k=1), LRUCache(capacity=128), Meets("k")
    met.thread = None
    assert met in textbook
    met.thread = threading.Thread(target=textbook.pop, args=["k"])
    with pytest.raises(KeyError):
        textbook.move_to_end(met)
    ours.set("k", 1)
    met.thread = threading.Thread(target=ours.delete, args=["k"])
    assert ours.get(met) in (1, None)


@article("`Post.query.all()`")
def test_models_have_no_query() -> None:
    assert not hasattr(Post, "query")


@article('"monitor your cache"')
def test_stock_sends_nothing_and_here_the_numbers_are_there(stock: Any, settings: Any) -> None:
    assert stock.app.config.get("CACHE_ENABLE_SIGNALS", False) is False
    assert [rule.rule for rule in stock.app.url_map.iter_rules()] == ["/static/<path:filename>"]
    app = create_app({**settings, "MONITORING_PASSWORD": "a password"})
    assert {"/cache/", "/metrics"} <= {rule.rule for rule in app.url_map.iter_rules()}
    assert "hits" in app.test_cli_runner().invoke(args=["cache", "stats"]).output.lower()
