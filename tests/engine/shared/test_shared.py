"""What a backend promises that several processes share."""

import itertools
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from flask import Flask

from shop.caching.cache import Cache
from shop.settings import load
from tests.engine import inside
from tests.engine.test_waits import Ring

PROCESSES = 4
ROUNDS = 200

start: Barrier


def ready(barrier: Barrier) -> None:
    """Prepare a process."""
    global start
    start = barrier


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Return processes that wait for one another at `start`."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, context, ready, (barrier,)) as pool:
        yield pool


def bound_cache(settings: dict[str, Any]) -> Cache:
    """Return the cache that another process would have."""
    app = Flask("bare")
    app.config.from_mapping(load(settings))
    return Cache(app)


def in_all(pool: ProcessPoolExecutor, work: Any, settings: dict[str, Any]) -> list[Any]:
    """Return what `work(settings)` gives in each of the processes, started together."""
    return [one.result() for one in [pool.submit(work, settings) for _ in range(PROCESSES)]]


def add_in_rounds(settings: dict[str, Any]) -> list[int]:
    cache = bound_cache(settings)
    won = []
    for number in range(ROUNDS):
        start.wait(60)
        if cache.add(f"round {number}", "winner"):
            won.append(number)
    return won


def count(settings: dict[str, Any]) -> None:
    cache = bound_cache(settings)
    start.wait(60)
    for _ in range(ROUNDS):
        cache.inc("n")


def test_of_processes_that_add_one_wins_each_round(
    pool: ProcessPoolExecutor, settings: dict[str, Any]
) -> None:
    wins = in_all(pool, add_in_rounds, settings)
    assert sorted(itertools.chain(*wins)) == list(range(ROUNDS))


def test_processes_lose_no_inc(pool: ProcessPoolExecutor, settings: dict[str, Any]) -> None:
    in_all(pool, count, settings)
    assert bound_cache(settings).get("n") == PROCESSES * ROUNDS


def test_a_value_is_seen_and_invalidated_in_another_process(
    pool: ProcessPoolExecutor, settings: dict[str, Any]
) -> None:
    cache = bound_cache(settings)
    assert cache.get_or_set("k", lambda: "here", tags=["t"]) == "here"
    assert pool.submit(tagged, settings, "there").result() == "here"
    cache.invalidate("t")
    assert pool.submit(tagged, settings, "there").result() == "there"
    assert cache.get("k") == "there"


def tagged(settings: dict[str, Any], value: str) -> Any:
    return bound_cache(settings).get_or_set("k", lambda: value, tags=["t"])


def test_values_outlive_the_process(settings: dict[str, Any]) -> None:
    bound_cache(settings).set("k", [1])
    assert bound_cache(settings).get("k") == [1]


def test_another_version_sees_none_of_the_old_values(settings: dict[str, Any]) -> None:
    bound_cache(settings).set("k", "old")
    assert bound_cache(settings | {"CACHE_VERSION": "2"}).get("k") is None


def test_in_debug_a_restart_sees_none_of_the_old_values(settings: dict[str, Any]) -> None:
    debug = settings | {"DEBUG": True}
    bound_cache(debug).set("k", "rendered from the old template")
    assert bound_cache(debug).get("k") is None


def test_clear_drops_every_version(settings: dict[str, Any]) -> None:
    other = bound_cache(settings | {"CACHE_VERSION": "2"})
    other.set("k", "v")
    bound_cache(settings).clear()
    assert not other.has("k")


@pytest.mark.parametrize("change", ["2", "replace", "shorter"])
def test_clear_leaves_other_apps_alone(settings: dict[str, Any], change: str) -> None:
    prefix = settings["CACHE_KEY_PREFIX"]
    neighbours = {"2": prefix + "2", "replace": prefix.replace("[*]", "*"), "shorter": prefix[:-1]}
    other = bound_cache(settings | {"CACHE_KEY_PREFIX": neighbours[change]})
    other.set("k", "v")
    bound_cache(settings).clear()
    assert other.get("k") == "v"


def test_a_planted_value_is_a_miss_and_is_never_unpickled(settings: dict[str, Any]) -> None:
    cache, stranger = bound_cache(settings), bound_cache(settings | {"SECRET_KEY": "guessed"})
    stranger.set("k", Bomb())
    assert cache.get("k") is None
    assert not Bomb.exploded


class Bomb:
    exploded = False

    def __reduce__(self) -> Any:
        return setattr, (Bomb, "exploded", True)


def test_a_former_secret_still_verifies(settings: dict[str, Any]) -> None:
    bound_cache(settings).set("k", "v")
    rotated = settings | {"SECRET_KEY": "new", "SECRET_KEY_FALLBACKS": [settings["SECRET_KEY"]]}
    assert bound_cache(rotated).get("k") == "v"


def test_a_value_moved_to_another_key_is_a_miss(settings: dict[str, Any]) -> None:
    cache = bound_cache(settings)
    cache.set("mine", "for my eyes")
    inside.signs_for_every_key(cache, "mine", ("for my eyes", 0.0))  # what a thief copies
    cache.set("yours", "anything")
    assert cache.get("mine") == "for my eyes"
    assert cache.get("yours") is None


@pytest.mark.parametrize("planted", [1, -(2**63), b"unsigned", b""])
def test_a_value_that_was_planted_is_no_computed_value(
    settings: dict[str, Any], planted: Any
) -> None:
    """Anybody who can write there can set an integer, which is not signed."""
    cache = bound_cache(settings)
    computed = cache.memoize()(lambda: "computed")
    inside.backend_of(cache).set(computed.make_cache_key(None), planted, 60)
    assert computed() == "computed"


@pytest.mark.parametrize("size", [2, 3])
def test_a_circle_over_processes_is_resolved_soon(
    bare: Flask, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    inside.circle_after(monkeypatch, 0.2)
    # They know as little of each other's computations as those of several processes.
    Ring([Cache(bare) for _ in range(size)]).run(bare)
