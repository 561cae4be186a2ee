"""Runs the measures, all or those named, and prints them: `python -m benchmarks lru disk`."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from . import bake, disk, lru, pages
from .measuring import Row, fraction
from .projects import Projects

MEASURES: dict[str, Callable[[Projects], list[Row]]] = {
    "bake": bake.measure,
    "lru": lru.measure,
    "disk": disk.measure,
    "pages": pages.measure,
}
LINE = "{:<44} {:>11} {:>11} {:>8} {:>9}  {}"


def main(names: list[str]) -> int:
    """Print the measures; return 1 if a target is missed, 2 if there is no such measure."""
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        print(f"No measure {', '.join(unknown)}; there are {', '.join(MEASURES)}", file=sys.stderr)
        return 2
    missed = 0
    print(LINE.format("measure / beside", "ours", "beside", "ratio", "target", ""))
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        projects = Projects(Path(folder))
        for name in names or MEASURES:
            for row in MEASURES[name](projects):
                missed += row.missed
                print(line(row), flush=True)
    return 1 if missed else 0


def line(row: Row) -> str:
    """Return the line of the table for `row`."""
    target = "" if row.target is None else f"<= {fraction(row.target)}"
    verdict = "" if row.target is None else "MISSED" if row.missed else "ok"
    return LINE.format(row.name, row.ours, row.stock, fraction(row.ratio), target, verdict).rstrip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
