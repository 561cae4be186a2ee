"""The backend in Redis."""

import functools
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request, session
from redis import Redis, exceptions

from shop.caching.backend import Backend
from shop.caching.cache import Cache
from shop.settings import SettingsError, load
from tests.engine import inside
from tests.engine.inside import backend_of, prefix
from tests.serving import redis_server


@pytest.fixture
def server(redis_url: str) -> Iterator[Redis]:
    """Return a connection to the server behind the cache."""
    with Redis.from_url(redis_url) as client:
        yield client


def commands_of(server: Redis, work: Callable[[], Any]) -> list[str]:
    """Return the commands that reach the server while `work` runs."""
    work()  # so that the connection is there
    commands: list[str] = []
    with server.monitor() as monitor:  # type: ignore[no-untyped-call]
        work()
        server.echo("done")
        for command in monitor.listen():
            if command["command"] == "ECHO done":
                break
            commands.append(command["command"])
    return [command for command in commands if command.split()[0] not in ("HELLO", "CLIENT")]


def test_the_server_expires_what_the_cache_would_not_serve(cache: Cache, server: Redis) -> None:
    cache.set("set", "v", timeout=60)
    cache.add("add", "v", timeout=60)
    cache.get_or_set("computed", lambda: "v", timeout=60, tags=["t"])
    cache.inc("count")
    names = [n for n in server.scan_iter() if n.decode().startswith(prefix(cache))]
    assert len(names) == 5
    assert all(0 < server.ttl(name) <= 2 * 86400 for name in names)


def test_timeout_0_has_no_expiry_on_the_server(cache: Cache, server: Redis) -> None:
    cache.set("k", "v", timeout=0)
    assert server.ttl(f"{prefix(cache)}k") == -1


def test_add_stores_and_expires_in_one_command(cache: Cache, server: Redis) -> None:
    """With SETNX and EXPIRE a crash in between leaves the key for ever."""
    names = iter("ab")
    commands = commands_of(server, lambda: cache.add(next(names), "v", timeout=60))
    assert commands[0].startswith("EVAL ")  # one step; MONITOR tells its commands, too
    (stored,) = (command for command in commands if command.startswith("SET "))
    assert " NX EX 120" in stored  # a minute more than it is served


def test_a_hit_is_one_command_with_tags_and_memoized_too(cache: Cache, server: Redis) -> None:
    def square(number: int) -> int:
        return number**2

    for hit in (
        functools.partial(cache.get_or_set, "untagged", str),
        functools.partial(cache.get_or_set, "tagged", str, tags=["a", "b"]),
        functools.partial(cache.memoize(60)(square), 3),
    ):
        assert len(commands_of(server, hit)) == 1


def test_flask_cachings_own_redis_runs_under_our_cache(
    bare: Flask, settings: dict[str, Any], tmp_path: Path
) -> None:
    # Its clear() takes the prefix for a pattern, which ours contains one of.
    own = {"CACHE_TYPE": "RedisCache", "CACHE_KEY_PREFIX": tmp_path.name}
    cache = Cache(bare, config={**settings, **own})
    runs: list[str] = []

    @bare.get("/page")
    @cache.cached(tags=["page"])
    def page() -> dict[str, Any]:
        runs.append("page")
        return {"user": session["user"]} if "private" in request.args else {"runs": len(runs)}

    client = bare.test_client()
    with bare.app_context():
        assert cache.set("k", [None])
        assert (cache.get("k"), cache.get_many("k", "l")) == ([None], [[None], None])
        assert not cache.add("k", "second")
        assert cache.inc("n") == 1
        assert [client.get("/page").json for _ in range(2)] == [{"runs": 1}] * 2
        with client.session_transaction() as values:
            values["user"] = "alice"
        assert "reads session" in client.get("/page?private").headers["Cache-Status"]
        cache.invalidate("page")
        assert client.get("/page").json == {"runs": 3}
        assert cache.clear()
        assert not cache.has("k")


def test_clear_does_not_stop_the_server_for_others(cache: Cache, server: Redis) -> None:
    """Neither KEYS nor FLUSHDB, nor one command for all keys."""
    names = [f"k{n}" for n in range(1200)]
    fill: Callable[[], Any] = functools.partial(cache.set_many, dict.fromkeys(names, 1))
    fill_then_clear = iter([fill, cache.clear])
    commands = commands_of(server, lambda: next(fill_then_clear)())
    assert {command.split()[0] for command in commands} == {"SCAN", "UNLINK"}
    assert max(len(command.split()) for command in commands) <= 600
    assert not any(cache.get_many(*names))


def test_what_is_computed_during_a_clear_is_not_left_behind_by_it(
    cache: Cache, bare: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clear has passed the place of the key when the computation ends."""
    scan = inside.client(cache).scan
    begun, go_on = threading.Event(), threading.Event()

    def compute() -> str:
        begun.set()
        assert go_on.wait(30)
        return "old"

    def run() -> Any:
        with bare.app_context():
            return cache.get_or_set("k", compute)

    with ThreadPoolExecutor() as pool:
        computing = pool.submit(run)
        assert begun.wait(30)

        def scan_then_end(*args: Any, **kwargs: Any) -> Any:
            found = scan(*args, **kwargs)
            go_on.set()
            assert computing.result() == "old"
            return found

        monkeypatch.setattr(inside.client(cache), "scan", scan_then_end)
        assert cache.clear()
    assert cache.get("k") is None


def test_a_silent_server_is_given_up_on_after_the_timeout_and_not_asked_again(
    bare: Flask,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        backend = Backend.factory(
            bare, bare.config | {"CACHE_REDIS_URL": url, "CACHE_REDIS_TIMEOUT": 0.05}, [], {}
        )
        with pytest.raises(exceptions.TimeoutError):
            backend.get("k")
        connections = 0
        silent.setblocking(False)
        while True:
            try:
                silent.accept()[0].close()
            except BlockingIOError:
                break
            connections += 1
    assert connections == 1


def test_a_password_and_a_database_come_with_the_url(bare: Flask, tmp_path: Path) -> None:
    with redis_server(tmp_path, 0, "--requirepass", "p@ss") as (port, _):
        for url, works in {
            f"redis://:p%40ss@127.0.0.1:{port}/1": True,
            f"valkey://:p%40ss@127.0.0.1:{port}/1": True,
            f"redis://127.0.0.1:{port}/1": False,
        }.items():
            backend = Backend.factory(bare, bare.config | {"CACHE_REDIS_URL": url}, [], {})
            if works:
                assert backend.set("k", b"v")
                assert backend.get("k") == b"v"
            else:
                with pytest.raises(exceptions.AuthenticationError):
                    backend.get("k")


def test_a_url_that_cannot_be_read_is_named_and_its_password_is_not() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"SECRET_KEY": "a", "CACHE_REDIS_URL": "redis://:pass/word@127.0.0.1/0"})
    assert "FLASK_CACHE_REDIS_URL" in str(caught.value)
    assert "pass" not in str(caught.value).replace("password", "")


def test_a_server_that_forbids_info_answers_and_does_not_tell_its_size(
    bare: Flask, tmp_path: Path
) -> None:
    with redis_server(tmp_path, 0, "--rename-command", "INFO", "") as (port, _):
        bare.config["CACHE_REDIS_URL"] = f"redis://127.0.0.1:{port}"
        cache = Cache(bare)
        with bare.app_context():
            backend = backend_of(cache)
            assert backend.ping()[0] == f"127.0.0.1:{port}/0"
            assert backend.usage() is None


def test_with_rediss_the_server_is_spoken_to_by_tls(bare: Flask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as pool:
        url = f"rediss://127.0.0.1:{listener.getsockname()[1]}"
        backend = Backend.factory(bare, bare.config | {"CACHE_REDIS_URL": url}, [], {})
        asking = pool.submit(backend.get, "k")
        with listener.accept()[0] as connection:
            hello = connection.recv(3)
        with pytest.raises(exceptions.ConnectionError):
            asking.result()
    assert hello[:2] == b"\x16\x03"  # a TLS handshake: RFC 8446, section 5.1


@pytest.mark.parametrize(
    "theirs",
    [
        {"CACHE_REDIS_HOST": "cache"},
        {"CACHE_REDIS_PORT": 6380, "CACHE_REDIS_DB": 1},
        {"CACHE_REDIS_HOST": "cache", "CACHE_REDIS_PASSWORD": "secret"},
        {"CACHE_OPTIONS": {"socket_timeout": 1}},
        {"CACHE_ARGS": [1], "CACHE_REDIS_SENTINELS": [("a", 1)]},
        {"CACHE_OPTIONS": {"ssl": True}, "CACHE_REDIS_CLUSTER": "a:1,b:2"},
    ],
)
@pytest.mark.parametrize("place", ["app", "cache"])
def test_settings_of_flask_cachings_redis_are_refused_with_the_name_of_ours(
    bare: Flask, theirs: dict[str, Any], place: str
) -> None:
    bare.config |= theirs if place == "app" else {}
    with pytest.raises(ValueError, match="set CACHE_REDIS_URL instead") as caught:
        Cache(bare, config=theirs if place == "cache" else None)
    assert all(name in str(caught.value) for name in theirs)
    assert "secret" not in str(caught.value)


def test_settings_of_flask_cachings_redis_that_are_empty_do_no_harm(bare: Flask) -> None:
    bare.config |= {"CACHE_REDIS_HOST": None, "CACHE_OPTIONS": {}, "CACHE_ARGS": []}
    assert Cache(bare).cache.set("k", "v")
