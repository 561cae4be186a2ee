"""How a measure is taken, so that all contenders meet the same noise, and the row it ends in."""

import gc
import itertools
import operator
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

#: Does one round of one contender and returns its figure, such as the seconds of one operation.
Round = Callable[[], float]
COMPARE = {"<=": operator.le, ">=": operator.ge}

_numbers = itertools.count()


@dataclass(frozen=True)
class Row:
    """One line of the table: our figures and those beside them, one of each round."""

    name: str
    ours: Sequence[float]
    beside: str = ""
    others: Sequence[float] = ()
    unit: str = "s"
    #: The ratio that will do, such as "<= 1"; of our own figure if `absolute`.
    target: str = ""
    absolute: bool = False
    #: Added to both figures in the table.
    details: Sequence[str] = ("", "")
    #: The README has its chief rows too.
    chief: bool = False

    @property
    def ratios(self) -> list[float]:
        """Our figure by the other one of the same round."""
        return [ours / other if other else 0.0 for ours, other in zip(self.ours, self.others)]  # noqa: B905  # one may have been measured less often

    @property
    def unclear(self) -> bool:
        """Whether half of the ratios lie in a range that is wider than their distance from 1."""
        low, high = quartiles(self.ratios or [1.0])
        return bool(self.ratios) and high - low > abs(statistics.median(self.ratios) - 1)

    @property
    def missed(self) -> bool:
        """Whether there is a target, and it is missed."""
        if not self.target:
            return False
        comparison, limit = self.target.split()
        figures = self.ours if self.absolute or not self.others else self.ratios
        return not COMPARE[comparison](statistics.median(figures), float(limit))

    def cells(self) -> list[str]:
        """Return the cells of the table: the medians, the ratio with its quartiles, the verdict."""
        shown = [
            f"{amount(statistics.median(figures), self.unit)}{detail}" if figures else ""
            for figures, detail in zip((self.ours, self.others), self.details, strict=True)
        ]
        ratio = ""
        if self.ratios:
            low, high = quartiles(self.ratios)
            ratio = f"{fraction(statistics.median(self.ratios))} ({fraction(low)}–{fraction(high)})"  # noqa: RUF001
            ratio += " unclear" if self.unclear else ""
        verdict = "**missed**" if self.missed else "met" if self.target else ""
        limit = self.target
        if self.absolute or not self.others:
            comparison, _, number = limit.partition(" ")
            limit = f"{comparison} {amount(float(number), self.unit)}" if limit else ""
        wanted = f"{limit.replace('<=', '≤').replace('>=', '≥')} {verdict}".strip()
        return [
            self.name,
            shown[0],
            f"{self.beside}: {shown[1]}" * bool(self.beside),
            ratio,
            wanted,
        ]


def taken(*contenders: Round, rounds: int) -> list[list[float]]:
    """Return the figures of each contender, one of each round.

    In each round every contender has its turn, each time in the opposite order: a machine that
    slows down, for a moment or for good, slows all of them.
    """
    figures: list[list[float]] = [[] for _ in contenders]
    turns = list(zip(contenders, figures, strict=True))
    for _ in range(rounds):
        for contender, own in turns:
            own.append(contender())
        turns.reverse()
    return figures


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


def quartiles(figures: Sequence[float]) -> tuple[float, float]:
    """Return the lower and the upper quartile."""
    if len(figures) < 2:
        return figures[0], figures[0]
    low, _, high = statistics.quantiles(figures, n=4, method="inclusive")
    return low, high


def amount(figure: float, unit: str) -> str:
    """Return a figure for people; seconds in the unit that suits."""
    if unit != "s":
        digits = 1 if unit == "%" else 0
        return f"{figure:,.{digits}f} {unit}".strip().replace(" /s", "/s")
    for name, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if figure >= size:
            return f"{figure / size:.3g} {name}"
    return f"{figure * 1e9:.0f} ns"


def fraction(ratio: float) -> str:
    """Return `ratio` for people: a small one as one part in many."""
    return f"{ratio:,.2f}" if ratio >= 0.1 or not ratio else f"1/{1 / ratio:,.0f}"
