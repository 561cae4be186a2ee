"""The template's own front: its workflows, README, pictures and licences."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.baking import ROOT

WORKFLOWS = [
    ROOT / ".github/workflows/ci.yml",
    ROOT / "{{cookiecutter.project_slug}}/.github/workflows/ci.yml",
]


@pytest.mark.parametrize(
    "command",
    [
        "zizmor --offline -q .github",
        "check-jsonschema --builtin-schema=vendor.github-workflows .github/workflows/ci.yml",
    ],
)
def test_the_workflow_passes_its_checkers(command: str) -> None:
    program, *arguments = command.split()
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_action_is_pinned_by_hash_and_its_version_is_named() -> None:
    versions: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for line in re.findall(r"uses: (.*)", path.read_text()):
            found = re.fullmatch(r"(\S+)@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)
            assert found, f"{path}: {line}"
            versions.setdefault(found[1], set()).add(line)
    assert [lines for lines in versions.values() if len(lines) > 1] == []
    ignored = list(ROOT.glob("*/zizmor.y*ml")) + list(ROOT.glob(".github/zizmor*"))
    assert ignored == [], "zizmor passes without exceptions"
    assert not [path for path in WORKFLOWS if "zizmor:" in path.read_text()]
