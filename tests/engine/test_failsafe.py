"""A failing backend is a miss: what is done and what is logged while it fails.

The real engines fail in `test_outages.py`, where there is one; here it is one that fails at will.
"""

import threading
from typing import Any

import pytest
from flask import Flask

from shop.caching import events
from shop.caching.cache import Cache
from tests.engine import inside
from tests.engine.fixtures import Moody
from tests.engine.inside import wait_until_closed
from tests.serving import wait_until


@pytest.fixture
def slow_probe(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let nothing probe until the returned event is set."""
    event = threading.Event()
    inside.pause_probes_by(monkeypatch, lambda seconds: event.wait(30))
    return event


@pytest.mark.parametrize("debug", [False, True])
def test_each_operation_gives_what_a_miss_gives(
    cache: Cache, moody: Moody, bare: Flask, debug: bool
) -> None:
    bare.debug = debug
    for fault in (ConnectionError("refused"), TimeoutError("silent")):
        moody.fault = fault
        for _ in range(3):
            assert cache.get("k") is None
            assert cache.get_many("k", "l") == [None, None]
            assert not cache.has("k")
            assert not cache.set("k", "v")
            assert cache.set_many({"k": "v"}) == []
            assert not cache.add("k", "v")
            assert cache.inc("n") is None
            assert cache.dec("n") is None
            assert not cache.delete("k")
            assert cache.delete_many("k") == []
            assert not cache.clear()
            assert not cache.invalidate("t")
            assert cache.get_or_set("k", lambda: "computed", tags=["t"]) == "computed"


def test_a_timeout_opens_the_breaker_at_once(
    cache: Cache, moody: Moody, slow_probe: threading.Event
) -> None:
    moody.fault = TimeoutError()
    cache.get("k")
    assert inside.is_open(cache)
    slow_probe.set()


def test_other_failures_open_it_after_three_in_a_row(
    cache: Cache, moody: Moody, slow_probe: threading.Event
) -> None:
    for _ in range(2):
        for _ in range(2):
            moody.fault = ConnectionError()
            cache.get("k")
        moody.fault = None
        cache.get("k")
    moody.fault = ConnectionError()
    for expected in (False, False, True):
        cache.get("k")
        assert inside.is_open(cache) is expected
    slow_probe.set()


def test_nothing_but_the_probe_touches_a_backend_that_failed(
    cache: Cache, moody: Moody, slow_probe: threading.Event
) -> None:
    moody.fault = TimeoutError()
    cache.get("k")
    moody.calls.clear()
    moody.asked.clear()
    for _ in range(100):
        cache.get_or_set("k", lambda: "v", tags=["t"])
        cache.set("k", "v")
    assert moody.calls == []
    slow_probe.set()
    assert moody.asked.wait(30)
    assert set(moody.calls) == {"delete"}


def test_it_is_in_use_again_when_it_answers_again(cache: Cache, moody: Moody) -> None:
    cache.set("k", "v")
    moody.fault = TimeoutError()
    assert cache.get("k") is None
    moody.fault = None
    wait_until(lambda: not inside.is_open(cache))
    assert cache.get("k") == "v"


def test_one_line_marks_each_change_of_state(
    cache: Cache, moody: Moody, caplog: pytest.LogCaptureFixture
) -> None:
    moody.fault = ConnectionError("refused")
    for _ in range(20):
        cache.get("k")
    moody.fault = None
    wait_until_closed(cache.cache)
    assert [record.message for record in caplog.records] == [
        "The cache fails and is not asked until it answers: ConnectionError: refused",
        "The cache answers again and is in use",
    ]


def test_the_lines_stand_in_the_order_of_the_changes(
    cache: Cache,
    bare: Flask,
    moody: Moody,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It fails again while the thread that found it answering has not logged that yet."""
    log, others = inside.breaker_log(), list[threading.Thread]()
    warning = log.warning

    def fail_again() -> None:
        with bare.app_context():
            cache.get("k")

    def log_late(message: str, *args: Any) -> None:
        if "answers again" in message and not others:
            moody.fault = TimeoutError()
            other = threading.Thread(target=fail_again)
            other.start()
            others.append(other)
            other.join(0.1)  # or is kept waiting
        warning(message, *args)

    monkeypatch.setattr(log, "warning", log_late)
    moody.fault = TimeoutError()
    cache.get("k")
    moody.fault = None
    wait_until(lambda: len(others) == 1)
    others[0].join()
    moody.fault = None
    wait_until_closed(cache.cache)
    changes = [record.message.split()[2] for record in caplog.records]
    assert changes == ["fails", "answers"] * 2


@pytest.mark.parametrize("undelivered", ["delete", "delete_many", "invalidate", "clear"])
@pytest.mark.parametrize("already_open", [False, True])
def test_what_could_not_be_dropped_is_not_served_after_the_outage(
    cache: Cache, moody: Moody, undelivered: str, already_open: bool
) -> None:
    cache.get_or_set("k", lambda: "old", tags=["t"])
    moody.fault = ConnectionError()
    if already_open:
        for _ in range(3):
            cache.get("k")
    arguments = {"delete": ["k"], "delete_many": ["k"], "invalidate": ["t"], "clear": []}
    assert not getattr(cache, undelivered)(*arguments[undelivered])
    assert inside.is_open(cache)
    moody.fault = None
    wait_until(lambda: not inside.is_open(cache))
    assert cache.get_or_set("k", lambda: "new", tags=["t"]) == "new"


def test_without_anything_to_drop_an_outage_loses_nothing(cache: Cache, moody: Moody) -> None:
    cache.set("k", "v")
    moody.fault = TimeoutError()
    cache.get("k")
    moody.fault = None
    wait_until(lambda: not inside.is_open(cache))
    assert "clear" not in moody.calls


def test_a_mistake_in_the_call_is_an_error_and_no_outage(cache: Cache, moody: Moody) -> None:
    with pytest.raises(TypeError):
        cache.cache.get("k", "too", "many")  # type: ignore[call-arg]
    assert not inside.is_open(cache)


def test_what_is_told_last_of_the_breaker_is_true_whatever_comes_between(
    cache: Cache, bare: Flask, moody: Moody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails again while the thread that found it answering has not told that yet."""
    told: list[str] = []
    log = inside.breaker_log()
    warning = log.warning

    def fail_again(message: str, *args: Any) -> None:
        warning(message, *args)
        if "answers again" in message and not told.count("closed") and moody.fault is None:
            moody.fault = TimeoutError()
            with bare.app_context():
                cache.get("k")

    def note(name: str, state: str, seconds: float) -> None:
        told.append(state)

    monkeypatch.setattr(log, "warning", fail_again)
    events.breaker.subscribe(note)
    try:
        moody.fault = TimeoutError()
        cache.get("k")
        moody.fault = None
        wait_until(lambda: len(told) >= 3)
        assert inside.is_open(cache)
        assert told == ["open"] * 3
        monkeypatch.setattr(log, "warning", warning)
        moody.fault = None
        wait_until(lambda: told[-1] == "closed")
    finally:
        events.breaker.unsubscribe(note)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_private_page_says_so_while_the_breaker_is_open(
    cache: Cache, moody: Moody, bare: Flask, slow_probe: threading.Event, method: str
) -> None:
    owned = cache.cached(private_key=lambda: "ann")(lambda: "the page of ann")
    bare.add_url_rule("/page", "page", owned, methods=["GET", "POST"])
    said = [bare.test_client().open("/page", method=method).headers["Cache-Control"]]
    moody.fault = TimeoutError()
    cache.get("k")
    said.append(bare.test_client().open("/page", method=method).headers["Cache-Control"])
    assert said == ["private", "private"]
    slow_probe.set()
