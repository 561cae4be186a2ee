"""Runs the measures, all or those named, and prints them: `python -m benchmarks lru disk`."""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import bake, clear, disk, herd, lru, monitoring, outage, pages, serve
from .measuring import Row, fraction
from .projects import Projects

MEASURES: dict[str, Callable[[Projects], list[Row]]] = {
    "bake": bake.measure,
    "lru": lru.measure,
    "disk": disk.measure,
    "pages": pages.measure,
    "herd": herd.measure,
    "outage": outage.measure,
    "clear": clear.measure,
    "monitoring": monitoring.measure,
    "serve": serve.measure,
}
#: What runs only when it is named.
ON_REQUEST = {"serve"}
LINE = "{:<65} {:>10} {:>10} {:>8} {:>9}  {}"


def main(names: list[str]) -> None:
    """Print the measures, and mark in the table each target that is missed."""
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        sys.exit(f"No measure {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    missed, start = 0, time.monotonic()
    print(LINE.format("measure / beside", "ours", "beside", "ratio", "target", "").rstrip())
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        projects = Projects(Path(folder))
        for name in names or [name for name in MEASURES if name not in ON_REQUEST]:
            for row in MEASURES[name](projects):
                missed += row.missed
                print(line(row), flush=True)
    took = time.monotonic() - start
    print(f"{missed or 'No'} target{'s' * (missed != 1)} missed; the run took {took:.0f} s")


def line(row: Row) -> str:
    """Return the line of the table for `row`."""
    ratio = "" if row.ratio is None else fraction(row.ratio)
    verdict = "" if not row.target else "MISSED" if row.missed else "ok"
    return LINE.format(row.name, row.ours, row.stock, ratio, row.target, verdict).rstrip()


if __name__ == "__main__":
    main(sys.argv[1:])
