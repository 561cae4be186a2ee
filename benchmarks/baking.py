"""Baking the template beside a template of one file, each as a whole command; and the size."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests import size
from tests.baking import BACKENDS, ROUTES, Answers, bake_into

from .measuring import Row, taken
from .run import TEMPLATE, Run


def measure(run: Run) -> Iterator[Row]:
    """Return the row of the whole command, and those of the sizes."""
    run.say("baking")
    smallest = run.scratch()
    (smallest / "cookiecutter.json").write_text(json.dumps({"slug": "smallest"}))
    (smallest / "{{cookiecutter.slug}}").mkdir()
    (smallest / "{{cookiecutter.slug}}" / "README.md").write_text("# {{ cookiecutter.slug }}\n")
    bakes = [partial(_bake, run, template) for template in (TEMPLATE, smallest)]
    taken(*bakes, rounds=1)  # so that both find their files in the page cache
    ours, one_file = taken(*bakes, rounds=run.some(7, 2))
    yield Row("bake the template", ours, "one of one file", one_file)
    for backend in BACKENDS:
        parts = size.measure(bake_into(run.scratch(), Answers(backend, tuple(ROUTES))), backend)
        for part in parts:
            if part.name in ("caching/", "all of the project"):
                name = f"size with `{backend}`: {part.name}"
                yield Row(name, [part.lines], "budget", [part.budget], "lines")


def _bake(run: Run, template: Path) -> float:
    output = run.scratch()
    config = output / "config.yaml"
    config.write_text(f"replay_dir: '{output}'\ncookiecutters_dir: '{output}'\n")
    env = {**os.environ, "COOKIECUTTER_CONFIG": str(config), "TMPDIR": str(output)}
    command = [sys.executable, "-m", "cookiecutter", "--no-input", "-o", str(output / "baked")]
    start = time.perf_counter()
    subprocess.run([*command, str(template)], check=True, env=env, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start
