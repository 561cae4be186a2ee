"""Checks the types of `tests/engine` against a project of each backend."""

import os
import subprocess
import sys

from tests.baking import BACKENDS, QUESTIONS, ROOT, ROUTES, Answers, bake_into


def main() -> int:
    """Return 1 if mypy finds an error with any backend."""
    wrong = False
    for backend in BACKENDS:
        folder = ROOT / "build/engine" / backend
        project = bake_into(folder, Answers(backend, tuple(ROUTES)))
        of_others = [name for name in BACKENDS if name != backend]
        if not QUESTIONS["_backends"][backend]["shared"]:
            of_others.append("shared")
        command = [sys.executable, "-m", "mypy", "--no-error-summary", "tests/engine"]
        command += ["--cache-dir", str(folder / "mypy")]
        command += ["--exclude", f"tests/engine/({'|'.join(of_others)})/"]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"MYPYPATH": str(project / "src")},
            check=False,
        )
        wrong |= done.returncode != 0
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
