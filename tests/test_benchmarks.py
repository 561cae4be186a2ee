"""The benchmarks' table: a target that is missed, and a ratio that says nothing, are marked."""

import xml.etree.ElementTree as ET

import pytest

from benchmarks.measuring import Row
from benchmarks.report import chart


@pytest.mark.parametrize(
    ("ours", "others", "target", "absolute", "verdict"),
    [
        ([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], "<= 1", False, "missed"),
        ([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], ">= 1.2", False, "met"),
        ([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], "<= 2", True, "met"),
        ([2.0, 2.0, 2.0], [9.0, 9.0, 9.0], "<= 1", True, "missed"),
        ([1.0, 9.0, 9.0], [1.0, 9.0, 9.0], "<= 1", False, "met"),
        ([2.0], [1.0], "", False, ""),
    ],
)
def test_a_target_is_one_of_the_ratio_unless_it_is_absolute(
    ours: list[float], others: list[float], target: str, absolute: bool, verdict: str
) -> None:
    row = Row("a measure", ours, "stock", others, target=target, absolute=absolute)
    assert row.missed == (verdict == "missed")
    assert row.cells()[-1].strip("*").endswith(verdict)


@pytest.mark.parametrize(
    ("ours", "unclear"),
    [
        ([1.9, 2.0, 2.1, 2.0], False),
        ([1.0, 2.0, 3.0, 4.0], False),
        ([0.5, 1.0, 1.5, 2.0], True),
        ([1.01, 1.02, 1.1, 1.2], True),
        ([0.5], False),
    ],
)
def test_a_ratio_that_spreads_wider_than_its_distance_from_one_is_marked(
    ours: list[float], unclear: bool
) -> None:
    row = Row("a measure", ours, "stock", [1.0] * len(ours))
    assert ("unclear" in row.cells()[3]) == unclear


def test_a_ratio_is_that_of_the_same_round() -> None:
    assert Row("a measure", [1.0, 10.0], "stock", [2.0, 20.0]).ratios == [0.5, 0.5]


def test_the_longest_bar_of_the_chart_is_that_of_the_most_hits() -> None:
    drawn = ET.fromstring(chart([("stock", [1.0, 2.0]), ("ours & more", [4.0, 6.0])]))
    bars = [bar for bar in drawn.iter("{http://www.w3.org/2000/svg}rect") if bar.get("x")]
    assert [float(bar.get("width") or 0) for bar in bars] == sorted(
        (float(bar.get("width") or 0) for bar in bars), reverse=True
    )
    assert "ours & more" in "".join(drawn.itertext())
