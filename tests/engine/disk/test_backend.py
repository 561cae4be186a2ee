"""The backend on disk."""

import bisect
import multiprocessing
import os
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from shop.caching.backend import Backend
from tests.engine import inside

PROCESSES, KEYS, BOUND, BATCH = 8, 2000, 500, 50


def make_backend(folder: Path, threshold: int = BOUND) -> Backend:
    return Backend(folder, "app:1:", threshold=threshold, wait=60)


def test_at_the_bound_the_expired_go_first_then_the_least_recently_used(tmp_path: Path) -> None:
    backend = make_backend(tmp_path, threshold=4)
    backend.set("for ever", 1, timeout=0)
    for key in ("a", "b", "c"):
        backend.set(key, 1)
    backend.get("for ever")
    backend.get("a")
    backend.set("d", 1)
    found = backend.get_many("for ever", "a", "b", "c", "d")
    assert found == [1, 1, None, 1, 1]


def test_a_hit_in_another_process_is_use_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = make_backend(tmp_path, 3), make_backend(tmp_path, 3)
    monkeypatch.setattr(Backend, "NOTING", -1.0)  # at once and not every ten seconds
    for key in ("hot", "a", "b"):
        writer.set(key, 1)
    reader.get("hot")
    writer.set("c", 1)
    assert writer.get_many("hot", "a") == [1, None]


def write_many(folder: Path, number: int, pipe: Connection) -> None:
    """Write, and send when each `set` began and when it was acknowledged."""
    backend = make_backend(folder)
    times = []
    pipe.recv()
    for n in range(KEYS):
        began = time.time()
        assert backend.set(f"{number}-{n}", n)
        times.append((f"{number}-{n}", began, time.time()))
    pipe.send(times)


def test_processes_keep_the_bound_and_lose_nothing_younger_than_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(PROCESSES)]
    processes = [
        context.Process(target=write_many, args=(tmp_path, number, theirs))
        for number, (_, theirs) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    for ours, _ in pipes:
        ours.send("start")
    backend = make_backend(tmp_path)
    sizes, waiting = [0], [ours for ours, _ in pipes]
    times: list[tuple[str, float, float]] = []
    while waiting:
        sizes.append(count(backend))
        for ours in [one for one in waiting if one.poll()]:
            times += ours.recv()
            waiting.remove(ours)
    for process in processes:
        process.join()
    assert len(times) == PROCESSES * KEYS
    assert max(sizes) <= BOUND
    acknowledged = sorted(end for _, _, end in times)
    young = [
        key
        for key, began, _ in times
        if len(times) - bisect.bisect_left(acknowledged, began) <= BOUND - BATCH
    ]
    assert young
    assert None not in backend.get_many(*young)


def write_half(folder: Path, pipe: Connection) -> None:
    backend = make_backend(folder)

    def work(db: sqlite3.Connection) -> None:
        db.execute("UPDATE entries SET value = 'half'")
        pipe.send("in mid-write")
        pipe.recv()

    inside.write_database(backend, work)


def test_a_process_killed_in_mid_write_leaves_a_cache_that_works(tmp_path: Path) -> None:
    backend = make_backend(tmp_path)
    backend.set("k", "before")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=write_half, args=(tmp_path, theirs))
    process.start()
    assert ours.recv() == "in mid-write"
    process.kill()
    process.join()
    assert backend.get("k") == "before"
    assert backend.set("k", "after")
    assert make_backend(tmp_path).get("k") == "after"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_the_backend_goes_on_on_both_sides_of_a_fork(tmp_path: Path) -> None:
    backend = make_backend(tmp_path)
    backend.set("k", "parent")
    parents = inside.with_database(backend, lambda db: db)
    child = os.fork()
    if child == 0:
        worked = backend.get("k") == "parent" and backend.set("k", "child")
        # SQLite's documentation forbids to carry a connection across a fork.
        worked &= inside.with_database(backend, lambda db: db) is not parents
        os._exit(0 if worked else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert backend.get("k") == "child"


def test_the_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    make_backend(tmp_path / "new" / "cache").set("k", "v")
    assert (tmp_path / "new" / "cache").stat().st_mode & 0o077 == 0


def count(backend: Backend) -> int:
    """Count the entries, the slow and certain way."""
    counted = "SELECT count(*) FROM entries"
    return int(inside.with_database(backend, lambda db: db.execute(counted).fetchone()[0]))


def test_a_reader_waits_for_no_other_thread(tmp_path: Path) -> None:
    backend = make_backend(tmp_path)
    backend.set("k", 1)
    both, ends = threading.Barrier(2), threading.Event()

    def read_for_long() -> None:
        inside.with_database(backend, lambda _: (both.wait(10), ends.wait(10)))

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(read_for_long)
        both.wait(10)
        assert backend.get("k") == 1
        assert backend.set("k", 2)
        assert backend.get("k") == 2
        assert not other.done()
        ends.set()
        other.result(10)
