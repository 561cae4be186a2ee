"""What a run leaves behind: the table, the chart, and all raw figures as JSON."""

import json
import os
import platform
import re
import statistics
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .measuring import Row, quartiles
from .run import TEMPLATE, Run
from .servers import redis_command

PACKAGES = ("flask", "flask-caching", "granian", "gunicorn", "redis", "cachetools", "cachelib")
HEAD = ["measure", "ours", "beside", "ratio (quartiles)", "target"]
ABOUT = """\
# The figures of `make bench`

{day}, {cpu}, {cores} cores, Linux {kernel}.
{packages}.

Each figure is the median of several rounds, in each of which all contenders have their turn. A
ratio is the median of those of the same round. Its quartiles are in brackets; it is *unclear* if
they are further apart than it is from 1. Over HTTP, figures are requests a second of 8 clients and,
in brackets, the 50th, 99th and 99.9th percentile of a request's time.
[results.json](results.json) has every round, the commands of the servers, and the machine.

"""
#: Where the README has the chief rows.
MARKS = "<!-- from here on: make bench -->\n", "<!-- up to here -->\n"
TITLE = "Ten posts over HTTP: hits a second, one worker, 8 clients"
PICTURE = f"![{TITLE}](docs/benchmarks/chart.svg)"
#: The chart: pixels of a bar's place, of the labels, and of the whole.
BAR, LABELS, WIDTH = 26, 190, 760
COLOURS = {"ours": "#1f6f50", "stock": "#8a5a12"}
CHART = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>{title}</title>
<rect width="100%" height="100%" rx="8" fill="#fdfdfb"/>
<g font-family="Verdana, 'DejaVu Sans', sans-serif" font-size="12" fill="#222">
<text x="16" y="24" font-weight="bold">{title}</text>
{bars}
</g>
</svg>
"""


def machine() -> dict[str, Any]:
    """Return where this runs, and the versions of all that is measured."""
    cpu = re.search(r"model name\s*: (.*)", _said("cat", "/proc/cpuinfo"))  # Linux has it
    said = {"server": _said(redis_command(), "--version"), "generator": _said("wrk", "-v")}
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _said("git", "-C", str(TEMPLATE), "describe", "--always", "--dirty").strip(),
        "cpu": cpu[1] if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load": [os.getloadavg()[0]],
        "versions": {
            "Python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
            **{
                name: f"{it.split()[0]} {re.findall(r'[0-9]+[.][0-9.]*[0-9]', it)[0]}"
                for name, it in said.items()
            },
        },
    }


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def write(folder: Path, run: Run, rows: list[Row], where: dict[str, Any]) -> None:
    """Write all of it into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    where["load"].append(os.getloadavg()[0])  # at the beginning and at the end
    raw = {**where, "quick": run.quick, "commands": run.commands, "rounds": run.raw}
    raw["rows"] = [asdict(row) | {"ratios": row.ratios, "missed": row.missed} for row in rows]
    raw = json.loads(json.dumps(raw), parse_float=lambda text: float(f"{float(text):.4g}"))
    (folder / "results.json").write_text(json.dumps(raw, indent=1) + "\n")
    packages = ", ".join(f"{name} {it}" for name, it in where["versions"].items())
    about = ABOUT.format(**where, day=where["when"][:10], packages=packages)
    (folder / "README.md").write_text(about + table(rows))
    if run.bars:
        (folder / "chart.svg").write_text(chart(run.bars))


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [HEAD, ["---"] * len(HEAD), *(row.cells() for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def renew(readme: Path, rows: list[Row]) -> None:
    """Put the chart and the chief rows into the README."""
    (before, _), (_, after) = (readme.read_text().split(mark) for mark in MARKS)
    shown = table([row for row in rows if row.chief])
    readme.write_text(f"{before}{MARKS[0]}\n{PICTURE}\n\n{shown}\n{MARKS[1]}{after}")


def chart(bars: list[tuple[str, list[float]]]) -> str:
    """Return the bars of requests a second, each with a line over its quartiles, as SVG."""
    bars = sorted(bars, key=lambda bar: -statistics.median(bar[1]))
    scale = (WIDTH - LABELS - 90) / max(max(quartiles(rates)) for _, rates in bars)
    drawn = []
    for number, (name, rates) in enumerate(bars):
        y, middle = 40 + BAR * number, statistics.median(rates)
        length = scale * middle
        low, high = (LABELS + scale * rate for rate in quartiles(rates)[::2])
        colour = COLOURS["ours" if name.startswith("ours") else "stock"]
        drawn += [
            f'<text x="{LABELS - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="18" fill="{colour}"/>',
            f'<path d="M{low:.1f} {y + 9}H{high:.1f}" stroke="#222" stroke-width="2"/>',
            f'<text x="{max(high, LABELS + length) + 8:.1f}" y="{y + 14}">{middle:,.0f}</text>',
        ]
    height = 52 + BAR * len(bars)
    return CHART.format(width=WIDTH, height=height, title=TITLE, bars="\n".join(drawn))
