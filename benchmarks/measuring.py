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
COMPARE, SIGNS = {"<=": operator.le, ">=": operator.ge}, {"<=": "≤", ">=": "≥"}

_numbers = itertools.count()


@dataclass(frozen=True)
class Row:
    """One line of the table: our figures and those beside them, one of each round."""

    name: str
    ours: Sequence[float]
    beside: str
    others: Sequence[float]
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
        return [ours / other for ours, other in zip(self.ours, self.others, strict=False)]

    @property
    def unclear(self) -> bool:
        """Whether half of the ratios lie in a range that is wider than their distance from 1."""
        low, middle, high = quartiles(self.ratios)
        return high - low > abs(middle - 1)

    @property
    def missed(self) -> bool:
        """Whether there is a target, and it is missed."""
        comparison, _, limit = self.target.partition(" ")
        figure = quartiles(self.ours if self.absolute else self.ratios)[1]
        return bool(limit) and not COMPARE[comparison](figure, float(limit))

    def cells(self) -> list[str]:
        """Return the cells of the table: the medians, the ratio with its quartiles, the verdict."""
        ours, others = (
            f"{amount(quartiles(figures)[1], self.unit)}{detail}"
            for figures, detail in zip((self.ours, self.others), self.details, strict=True)
        )
        low, middle, high = map(fraction, quartiles(self.ratios))
        ratio = f"{middle} ({low} to {high})" if len(self.ratios) > 1 else middle
        comparison, _, limit = self.target.partition(" ")
        if limit:
            shown = amount if self.absolute else lambda number, unit: fraction(number)
            verdict = "**missed**" if self.missed else "met"
            limit = f"{SIGNS[comparison]} {shown(float(limit), self.unit)}, {verdict}"
        return [
            self.name,
            ours,
            f"{self.beside}: {others}",
            ratio + " unclear" * self.unclear,
            limit,
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


def quartiles(figures: Sequence[float]) -> list[float]:
    """Return the lower quartile, the median and the upper quartile."""
    return statistics.quantiles([*figures] * 2, n=4, method="inclusive")


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
    return f"{ratio:,.2f}" if ratio >= 0.05 or not ratio else f"1/{1 / ratio:,.0f}"
