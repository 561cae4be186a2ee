"""Runs the measures, all or those named: `python -m benchmarks lru disk`; QUICK=1 for a rough look.

All of them renew the files in docs/benchmarks/ and the figures of the README, unless it is a quick
run; else they are in build/benchmarks/.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from . import backends, baking, faults, layers, lru, report, served
from .measuring import Row
from .run import TEMPLATE, Run

MEASURES: dict[str, Callable[[Run], Iterable[Row]]] = {
    "served": served.measure,
    "faults": faults.measure,
    "layers": layers.measure,
    "lru": lru.measure,
    "backends": backends.measure,
    "scrape": served.scrape,
    "baking": baking.measure,
}


def main(names: list[str]) -> None:
    """Print each row when it is there, then write them all."""
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        sys.exit(f"No measure {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, lambda *_: sys.exit("stopped"))  # so that its servers end too
    where, rows = report.machine(), list[Row]()
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        run = Run(Path(folder), quick=os.environ.get("QUICK", "") not in ("", "0"))
        for name in names or MEASURES:
            run.say(name)
            for row in MEASURES[name](run):
                rows.append(row)
                print(report.table([row]).splitlines()[-1], flush=True)
    whole = not names and not run.quick
    place = TEMPLATE / ("docs" if whole else "build") / "benchmarks"
    report.write(place, run, rows, where)
    if whole:
        report.renew(TEMPLATE / "README.md", rows)
    missed = sum(row.missed for row in rows)
    run.say(f"{missed or 'No'} target{'s' * (missed != 1)} missed; see {place}")


if __name__ == "__main__":
    main(sys.argv[1:])
