"""The backend in the worker process."""

import gc
import os
import subprocess
import sys
from typing import Any

import pytest

from shop.caching.backend import Backend
from shop.caching.cache import Cache
from tests.engine import inside

KEYS = int(os.environ.get("TEST_KEYS", "50_000"))  # the more, the surer and the slower


@pytest.fixture
def backend() -> Backend:
    return Backend(threshold=3)


def test_at_the_bound_the_least_recently_used_goes_not_what_never_expires(
    backend: Backend,
) -> None:
    backend.set("for ever", 1, timeout=0)
    backend.set("a", 1, timeout=1)
    backend.set("b", 1, timeout=100_000)
    backend.get("for ever")
    backend.set("c", 1, timeout=60)
    assert backend.get_many("for ever", "a", "b", "c") == [1, None, 1, 1]


def test_what_cannot_change_is_not_copied(cache: Cache) -> None:
    page = (b"body", 200, (("Content-Type", "text/html"),))
    cache.set("k", page)
    assert cache.get("k") is page


@pytest.mark.parametrize("value", [[1], {"a": 1}, ([1],), ({"a": 1}, 2)])
def test_what_can_change_is_copied(cache: Cache, value: Any) -> None:
    cache.set("k", value)
    assert cache.get("k") == value
    assert cache.get("k") is not cache.get("k")


def test_no_number_of_keys_leaves_more_behind_than_fill_the_cache(cache: Cache) -> None:
    def ask(numbers: range) -> int:
        """Ask for each; return how many blocks of memory Python holds afterwards."""
        for number in numbers:
            cache.get_or_set(f"k{number}", lambda: "v")
        gc.collect()
        return sys.getallocatedblocks()

    full = ask(range(20_000))
    assert ask(range(20_000, 20_000 + KEYS)) <= full + 1000
    assert (len(inside.entries(cache)), len(inside.local_leases(cache))) == (1000, 0)
    assert inside.running(cache) == {}


WORKER = """
import logging, os, sys
from flask import Flask
from shop.caching.backend import Backend

logging.basicConfig(format="%(message)s", stream=sys.stdout)
settings = {"CACHE_THRESHOLD": 1, "CACHE_DEFAULT_TIMEOUT": 1}
Backend.factory(Flask("siblings"), settings, [], {})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no forking servers on Windows")
def test_workers_of_one_server_are_warned_that_they_would_disagree(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker but one warns, whether the app is loaded in the workers or before the fork."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "-c", WORKER + "print(flush=True); input()"]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    warnings = []
    for worker in workers:
        assert worker.stdout is not None
        warnings.append(worker.stdout.readline())
    for worker in workers:
        worker.communicate("\n", timeout=30)
    assert len([line for line in warnings if "Another process of siblings" in line]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="there are no forking servers on Windows")
def test_workers_forked_from_one_that_loaded_the_app_are_warned(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    forked = """
for _ in range(3):
    if os.fork() == 0:
        sys.stdout.flush()
        os.read(0, 1)  # until the test has seen them all
        os._exit(0)
print("forked", flush=True)
for _ in range(3):
    os.wait()
"""
    with subprocess.Popen(
        [sys.executable, "-u", "-c", WORKER + forked],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        lines = [parent.stdout.readline() for _ in range(3)]
        parent.stdin.write("...")
        parent.stdin.close()
        lines += parent.stdout.readlines()
    assert len([line for line in lines if "Another process of siblings" in line]) == 2
