"""Baking the template beside a template of one file, each as a whole command."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from .measuring import Round, Row, alternate, beside
from .projects import TEMPLATE, Projects

ROUNDS = 11


def measure(projects: Projects) -> list[Row]:
    """Return the row of the whole command."""
    smallest = projects.scratch()
    (smallest / "cookiecutter.json").write_text(json.dumps({"slug": "smallest"}))
    (smallest / "{{cookiecutter.slug}}").mkdir()
    (smallest / "{{cookiecutter.slug}}" / "README.md").write_text("# {{ cookiecutter.slug }}\n")
    contenders = [_command(projects, template) for template in (TEMPLATE, smallest)]
    alternate(*contenders, rounds=1)  # so that both find their files in the page cache
    ours, one_file = alternate(*contenders, rounds=ROUNDS)
    return [beside("bake: all of the template / one file", ours, one_file)]


def _command(projects: Projects, template: Path) -> Round:
    environment = {
        **os.environ,
        "HOME": str(projects.folder),
        "COOKIECUTTER_CONFIG": str(projects.config),
        "TMPDIR": str(projects.folder),  # Cookiecutter leaves rendered hooks there
    }
    command = [str(Path(sys.executable).with_name("cookiecutter")), "--no-input", "-o"]

    def run() -> float:
        output = projects.scratch()
        start = time.perf_counter()
        subprocess.run(
            [*command, str(output), str(template)],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - start

    return run
