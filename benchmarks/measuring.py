"""How a measure is taken, so that two contenders meet the same noise, and how it is reported."""

import gc
import itertools
import operator
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

#: Does one round of one contender and returns the seconds that one operation took in it.
Round = Callable[[], float]

_numbers = itertools.count()


class Row(NamedTuple):
    """One line of the table: what we cost, what the stock alternative costs, and their ratio."""

    name: str
    ours: str
    stock: str = ""
    #: None where there is nothing to compare with.
    ratio: float | None = None
    #: The most that will do, or the least; empty where the row only informs.
    target: str = ""
    missed: bool = False


def beside(name: str, ours: float, stock: float, target: float | None = None) -> Row:
    """Return the row of two durations in seconds; `target` is the largest ratio that will do."""
    ratio = ours / stock
    row = Row(name, duration(ours), duration(stock), ratio)
    if target is None:
        return row
    return row._replace(target=f"<= {fraction(target)}", missed=ratio > target)


def lasting(name: str, ours: float, stock: float | None = None, target: float | None = None) -> Row:
    """Return the row of a duration in seconds; `target` is the longest that will do."""
    row = Row(name, duration(ours)) if stock is None else beside(name, ours, stock)
    if target is None:
        return row
    return row._replace(target=f"<= {duration(target).replace('.00', '')}", missed=ours > target)


def counted(name: str, ours: int, stock: int, target: int) -> Row:
    """Return the row of two counts; `target` is the largest of ours that will do."""
    return Row(name, f"{ours:,}", f"{stock:,}", ours / stock, f"<= {target:,}", ours > target)


def rates(name: str, ours: Round, other: Round, rounds: int, target: float | None = None) -> Row:
    """Return the row of operations a second; `target` is the smallest ratio that will do.

    The rates are medians, and so is the ratio, but that of the ratios within each round: for small
    differences, which a machine that slows down between two rounds would hide.
    """
    our_times, other_times = _times(ours, other, rounds=rounds)
    ratio = statistics.median(map(operator.truediv, other_times, our_times))
    our_rate, other_rate = (1 / statistics.median(it) for it in (our_times, other_times))
    row = Row(name, f"{our_rate:,.0f}/s", f"{other_rate:,.0f}/s", ratio)
    if target is None:
        return row
    return row._replace(target=f">= {fraction(target)}", missed=ratio < target)


def alternate(*contenders: Round, rounds: int) -> list[float]:
    """Return the median over `rounds` of each contender's seconds.

    In each round every contender has its turn, each time in the opposite order: a machine that
    slows down, for a moment or for good, slows all of them.
    """
    return [statistics.median(taken) for taken in _times(*contenders, rounds=rounds)]


def _times(*contenders: Round, rounds: int) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in contenders]
    turns = list(zip(contenders, times, strict=True))
    for _ in range(rounds):
        for contender, taken in turns:
            taken.append(contender())
        turns.reverse()
    return times


def seconds_each(function: Callable[[Any], object], items: Iterable[Any]) -> float:
    """Call `function` with each of `items` and return the seconds that one call took."""
    items = list(items)
    gc.collect()  # nobody pays for the garbage of the one before
    start = time.perf_counter()
    for item in items:
        function(item)
    return (time.perf_counter() - start) / len(items)


def fresh_keys(count: int) -> list[str]:
    """Return `count` keys that were never used before."""
    return [f"key {number}" for number in itertools.islice(_numbers, count)]


def duration(seconds: float) -> str:
    """Return `seconds` for people, in the unit that suits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:,.2f} {unit}"
    return f"{seconds * 1e6:,.2f} us"


def fraction(ratio: float) -> str:
    """Return `ratio` for people: a small one as one part in many."""
    return f"{ratio:,.2f}" if ratio >= 0.1 else f"1/{1 / ratio:,.0f}"
