"""The disk fails in every way a disk can: no request fails, and it is in use again after it."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from shop.caching.backend import Backend
from shop.caching.cache import Cache
from shop.settings import load
from tests.engine import inside
from tests.engine.fixtures import Clock
from tests.engine.inside import backend_of
from tests.serving import wait_until


class Site:
    """An app with cached pages in a database of its own."""

    def __init__(self, folder: Path, settings: dict[str, Any], clock: Clock) -> None:
        self.folder = folder
        self.app = Flask("site")
        self.app.config.from_mapping(load({**settings, "CACHE_DIR": str(folder)}))
        self.cache = Cache(self.app)
        self.cache.clock = clock
        self.data = "old"
        for path in ("/page", "/other"):
            cached = self.cache.cached(tags=["page"])(lambda: self.data)
            self.app.add_url_rule(path, path, cached)

    @property
    def database(self) -> Path:
        return self.folder / "cache.sqlite3"

    def get(self, path: str = "/page") -> str:
        response = self.app.test_client().get(path)
        assert response.status_code == 200
        return response.text

    def hit(self) -> bool:
        return "; hit" in self.app.test_client().get("/page").headers["Cache-Status"]

    def invalidate(self) -> bool:
        with self.app.app_context():
            return self.cache.invalidate("page")

    def recovered(self) -> bool:
        with self.app.app_context():
            return not inside.is_open(self.cache)

    def backend(self) -> Backend:
        with self.app.app_context():
            backend: Backend = backend_of(self.cache)
            return backend


@pytest.fixture(params=[False, True], ids=["production", "debug"])
def site(
    request: pytest.FixtureRequest,
    settings: dict[str, Any],
    tmp_path: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> Site:
    inside.probe_every(monkeypatch, 0.05)
    return Site(tmp_path / "site", {**settings, "DEBUG": request.param}, clock)


def assert_used(site: Site) -> None:
    wait_until(site.recovered)
    site.get()
    assert site.hit()


def test_a_folder_that_cannot_be_made_fails_nothing_and_is_used_once_it_can(site: Site) -> None:
    site.folder.write_text("a file where the folder should be")
    for _ in range(10):
        assert site.get() == "old"
    site.folder.unlink()
    assert_used(site)


def test_a_deleted_database_is_begun_anew(site: Site) -> None:
    site.get()
    site.database.unlink()
    assert site.get() == "old"
    assert_used(site)
    assert site.database.exists()


def test_a_deleted_folder_is_made_again(site: Site) -> None:
    site.get()
    for path in site.folder.iterdir():
        path.unlink()
    site.folder.rmdir()
    assert site.get() == "old"
    assert_used(site)


@pytest.mark.parametrize("offset", [0, 4096], ids=["header", "page"])
def test_a_corrupt_database_is_begun_anew(site: Site, offset: int) -> None:
    site.get()
    truncate = "PRAGMA wal_checkpoint(TRUNCATE)"
    inside.with_database(site.backend(), lambda db: db.execute(truncate).fetchall())
    content = bytearray(site.database.read_bytes())
    content[offset:] = b"\xde\xad" * ((len(content) - offset) // 2)
    replacement = site.folder / "replacement"
    replacement.write_bytes(content)
    replacement.rename(site.database)
    for _ in range(10):
        assert site.get() == "old"
    assert_used(site)


def test_what_another_process_deleted_serves_nothing_that_it_invalidates(site: Site) -> None:
    """Two databases, the deleted one still open here, must not disagree."""
    site.get()
    site.database.unlink()
    site.data = "new"
    assert site.invalidate()
    assert site.get() == "new"


def full(db: sqlite3.Connection) -> Callable[[], Any]:
    """Let the database grow no further; SQLite then fails as on a full disk."""
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    return lambda: db.execute("PRAGMA max_page_count = 1000000")


def read_only(db: sqlite3.Connection) -> Callable[[], Any]:
    """Refuse every write; SQLite then fails as on a disk that is read-only."""
    db.execute("PRAGMA query_only = ON")
    return lambda: db.execute("PRAGMA query_only = OFF")


@pytest.mark.parametrize("fault", [full, read_only])
def test_a_full_or_read_only_disk_fails_nothing_and_serves_what_it_has(
    site: Site, fault: Callable[[sqlite3.Connection], Callable[[], Any]]
) -> None:
    site.get()
    mend = inside.with_database(site.backend(), fault)
    assert site.hit()
    site.data = "x" * 100_000
    for _ in range(10):
        assert site.get("/other") == site.data
    assert site.hit()
    inside.with_database(site.backend(), lambda _: mend())
    site.get("/other")
    assert_used(site)


def test_an_invalidation_that_the_disk_refused_is_honoured_when_it_can_be(site: Site) -> None:
    site.get()
    mend = inside.with_database(site.backend(), read_only)
    site.data = "new"
    assert not site.invalidate()
    assert site.get() == "new"
    inside.with_database(site.backend(), lambda _: mend())
    wait_until(site.recovered)
    assert site.get() == "new"


def test_a_writer_that_holds_the_database_costs_no_request(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.get()
    inside.wait_to_write(monkeypatch, site.backend(), 0.05)
    other = sqlite3.connect(site.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert site.hit()
    assert site.get("/other") == "old"
    other.execute("ROLLBACK")
    other.close()
    assert_used(site)
