"""In whatever order an app calls them, the operations do the same as those of a simple model."""

import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from shop.caching.cache import Cache
from tests.engine import inside
from tests.engine.fixtures import Clock

DEFAULT = 30  # seconds


@dataclass(frozen=True)
class Item:
    """A value, when it stops being fresh, how long it is served after that, and its tags."""

    value: Any
    expires: float
    stale: float = 0
    tags: frozenset[str] = frozenset()


class Model:
    """The whole truth about a cache, under the names of its operations."""

    def __init__(self) -> None:
        self.clock, self.items = Clock(), dict[str, Item]()
        self.computing = set[str]()
        self.changed: list[str] = []  # keys that were stored or dropped, in this order
        self.invalidated: list[str] = []  # tags

    def live(self, key: str) -> Item | None:
        item = self.items.get(key)
        return item if item and self.clock() < item.expires else None

    def put(self, key: str, item: Item) -> bool:
        self.items[key] = item
        self.changed.append(key)
        return True

    def expiry(self, timeout: Any) -> float:
        timeout = timeout() if callable(timeout) else DEFAULT if timeout is None else timeout
        timeout = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        return self.clock() + timeout if timeout else math.inf

    def get(self, key: str) -> Any:
        item = self.live(key)
        return item and item.value

    def get_many(self, *keys: str) -> list[Any]:
        return [self.get(key) for key in keys]

    def has(self, key: str) -> bool:
        return self.live(key) is not None

    def set(self, key: str, value: Any, timeout: Any = None) -> bool:
        return self.put(key, Item(value, self.expiry(timeout)))

    def set_many(self, mapping: Mapping[str, Any], timeout: Any = None) -> list[str]:
        return [key for key, value in mapping.items() if self.set(key, value, timeout)]

    def add(self, key: str, value: Any, timeout: Any = None) -> bool:
        return not self.has(key) and self.set(key, value, timeout)

    def inc(self, key: str, delta: int = 1) -> int:
        item = self.live(key) or Item(0, self.expiry(None))
        if not -(2**63) <= delta < 2**63:
            raise OverflowError
        if type(item.value) is not int:
            raise TypeError
        total: int = item.value + delta
        if not -(2**63) <= total < 2**63:
            raise OverflowError
        self.put(key, replace(item, value=total))
        return total

    def dec(self, key: str, delta: int = 1) -> int:
        return self.inc(key, -delta)

    def delete_many(self, *keys: str) -> list[str]:
        self.changed += keys
        self.items = {key: item for key, item in self.items.items() if key not in keys}
        return [*keys]

    def clear(self) -> bool:
        return bool(self.delete_many(*KEYS))

    def invalidate(self, *tags: str) -> bool:
        self.invalidated += tags
        for key, item in self.items.items():
            if item.tags & {*tags}:
                self.items[key] = replace(item, expires=-math.inf)
        return True

    def old(self, key: str, tags: Iterable[str], stale: float) -> Item | None:
        """Return what other callers get while one computes; None if they have to wait."""
        item = self.items.get(key)
        served = (
            item and self.clock() < item.expires + min(stale, item.stale) and {*tags} <= item.tags
        )
        return item if served else None

    def get_or_set(
        self,
        key: str,
        compute: Callable[[], Any],
        timeout: Any = None,
        *,
        stale: float = 0,
        tags: Iterable[str] = (),
    ) -> Any:
        item = self.live(key)
        if item is None and key in self.computing:
            item = self.old(key, tags, stale)
        if item is not None and {*tags} <= item.tags:
            return item.value
        changed, invalidated = len(self.changed), len(self.invalidated)
        asked = self.expiry(timeout)
        self.computing.add(key)
        try:
            value = compute()
        finally:
            self.computing.remove(key)
        if key not in self.changed[changed:]:
            expires = asked if callable(timeout) else self.expiry(timeout)
            if {*tags} & {*self.invalidated[invalidated:]}:
                expires = -math.inf
            self.put(key, Item(value, expires, stale, frozenset(tags)))
        return value


KEYS = ["k", "", " ", "*", "[k]", "%s", "line\r\n", "nul\x00", "\N{SNOWMAN}", "k" * 10_000]
TAGS = ["k", "t", "\N{SNOWMAN}*"]
INTEGERS = [0, 1, -5, 42, 2**63 - 1, -(2**63), 2**63, 10**30]
OTHERS = [
    *(None, True, False, 1.5, "", "17", b"17", "text \N{SNOWMAN}", b"\x00\xff"),
    *([1, [2]], {"a": (1, 2)}, (), (17,), (10, 20), (17, 1e9, 3e9, (("t", "token"),))),
    *(("v", 1e9), ("v", 1e9, 3e9, ()), (None, 3e9, 1e9, (), ())),
]
SECONDS = [5, 10, 20, 25, 100_000]
# Of all keys few in each example, so that they meet.
SOME = st.shared(st.permutations(KEYS), key="some").map(lambda keys: keys[:3])
KEY = SOME.flatmap(st.sampled_from)
VALUE = st.one_of(st.sampled_from(INTEGERS), st.sampled_from(OTHERS))
DELTA = st.sampled_from([1, 2, *INTEGERS])
TIMEOUT: st.SearchStrategy[Any] = st.sampled_from([None, 0, 10, 20, 7.5, timedelta(seconds=20)])
TAGGED = st.lists(st.sampled_from(TAGS), max_size=2)
#: The operations with their arguments.
CALLS: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
    "get": st.tuples(KEY),
    "get_many": st.lists(KEY, max_size=4).map(tuple),
    "has": st.tuples(KEY),
    "set": st.tuples(KEY, VALUE, TIMEOUT),
    "set_many": st.tuples(st.dictionaries(KEY, VALUE, max_size=3), TIMEOUT),
    "add": st.tuples(KEY, VALUE, TIMEOUT),
    "inc": st.tuples(KEY, DELTA),
    "dec": st.tuples(KEY, DELTA),
    "delete_many": st.lists(KEY, max_size=3).map(tuple),
    "clear": st.just(()),
    "invalidate": TAGGED.map(tuple),
}
WORKER = st.integers(0, 1)
CALL = st.one_of([st.tuples(WORKER, st.just(name), args) for name, args in CALLS.items()])


class Failed(Exception):
    """A computation failed."""


def outcome(workers: Any, by: int, name: str, args: Any, how: Any = None) -> str:
    """Return a text that tells apart results that `==` does not, such as 1 and True."""
    try:
        return repr(getattr(workers[by], name)(*args, **how or {}))
    except Exception as error:
        return f"raised {type(error).__name__}"


def in_a_thread(call: Callable[[], Any]) -> str:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return repr(results)


class Machine(RuleBasedStateMachine):
    """Does the same with two workers and with the model, and compares the results."""

    def __init__(self, workers: list[Cache], pass_time: Callable[[float], None]) -> None:
        super().__init__()
        workers[0].clear()
        self.workers, self.model, self.is_read = workers, Model(), True
        self.sides: list[Any] = [
            (workers, pass_time),
            ([self.model, self.model], self.model.clock.forward),
        ]

    def same(self, told: Callable[[Any, Any], list[str]]) -> None:
        self.is_read = True
        really, rightly = [told(*side) for side in self.sides]
        assert really == rightly

    @rule(seconds=st.sampled_from(SECONDS))
    def wait(self, seconds: float) -> None:
        for _, pass_time in self.sides:
            pass_time(seconds)
        self.is_read = False  # to read drops what has expired, and other operations meet it too

    @rule(by=WORKER, key=KEY)
    def delete(self, by: int, key: str) -> None:
        there, was_there = self.model.has(key), key in self.model.items
        assert there <= self.workers[by].delete(key) <= was_there  # not every backend knows more
        self.model.delete_many(key)

    @rule(
        by=WORKER,
        key=KEY,
        value=VALUE,
        timeout=st.one_of(TIMEOUT, st.just(lambda: 10)),
        stale=st.sampled_from([0, 10, 25]),
        tags=TAGGED,
        seconds=st.sampled_from([0, 2.5]),
        meanwhile=st.one_of(st.none(), CALL),
        fails=st.sampled_from([False, False, True]),
    )
    def get_or_set(
        self, by: int, key: str, value: Any, seconds: float, meanwhile: Any, fails: bool, **how: Any
    ) -> None:
        others_get_it = self.model.old(key, how["tags"], how["stale"]) is not None

        def told(workers: Any, pass_time: Any) -> list[str]:
            seen: list[str] = []

            def compute() -> Any:
                seen.append("computes")
                if others_get_it:
                    other = workers[1 - by]
                    seen.append(in_a_thread(lambda: other.get_or_set(key, Failed, **how)))
                pass_time(seconds)
                if meanwhile:
                    seen.append(outcome(workers, *meanwhile))
                if fails:
                    raise Failed
                return value

            return [outcome(workers, by, "get_or_set", (key, compute), how), *seen]

        self.same(told)

    @rule(by=WORKER, key=KEY, value=VALUE)
    def somebody_stores_below(self, by: int, key: str, value: Any) -> None:
        self.workers[by].cache.set(key, value)
        assert repr(self.workers[1 - by].get(key)) in (repr(value), "None")
        self.workers[by].delete(key)
        self.model.delete_many(key)

    @invariant()
    def every_key_is_the_same(self) -> None:
        if self.is_read:
            for worker in self.workers:
                assert repr(worker.get_many(*KEYS)) == repr(self.model.get_many(*KEYS))
            for key in self.model.items:
                assert self.workers[0].has(key) == self.model.has(key)


def step(name: str) -> Any:
    """Return the rule that calls one operation."""

    def call(self: Machine, by: int, args: tuple[Any, ...]) -> None:
        self.same(lambda workers, _: [outcome(workers, by, name, args)])

    call.__name__ = name
    return rule(by=WORKER, args=CALLS[name])(call)


for name in CALLS:
    setattr(Machine, name, step(name))


@pytest.fixture
def workers(bare: Flask, clock: Clock) -> list[Cache]:
    """Return two caches of one backend, as two workers have them, or one of our own alone."""
    bare.config["CACHE_DEFAULT_TIMEOUT"] = DEFAULT
    workers = [Cache(bare)]
    workers.append(Cache(bare) if inside.is_shared(workers[0]) else workers[0])
    for worker in workers:
        worker.clock = clock
    return workers


def test_every_operation_does_as_the_model_does(
    workers: list[Cache], pass_time: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside.wait_for_at_most(monkeypatch, 0.5)  # nobody has to wait, unless something is wrong
    run: Any = run_state_machine_as_test  # its types differ by version
    run(
        lambda: Machine(workers, pass_time),
        settings=settings(
            max_examples=int(os.environ.get("TEST_EXAMPLES", "60")),
            stateful_step_count=30,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
