"""Prints how large a generated project is, beside the budget: `python -m tests.size`.

Lines are those of all text files, as `wc -l` counts them; docstrings are counted in, and printed
apart. Each project has every route.
"""

import ast
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests import way
from tests.baking import BACKENDS, ROUTES, SLUG, Answers, bake_into, files

SOURCE = f"src/{SLUG}/"
CACHING, MONITORING = f"{SOURCE}caching/", f"{SOURCE}monitoring/"
#: The most lines of a part, and which of the project's files it consists of. In this order.
PARTS: dict[str, tuple[int, Callable[[str], bool]]] = {
    "the owner's src": (
        430,
        lambda name: name.startswith(SOURCE) and not name.startswith((CACHING, MONITORING)),
    ),
    "caching/": (2_400, lambda name: name.startswith(CACHING)),
    "monitoring/, its Python": (
        670,
        lambda name: name.startswith(MONITORING) and name.endswith(".py"),
    ),
    "tests/": (2_000, lambda name: name.startswith("tests/")),
    "README.md": (190, lambda name: name == "README.md"),
    "all of the project": (7_700, lambda name: True),
}
#: How many lines more or less a backend may have than `redis`.
MORE = {("memory", "caching/"): -200, ("disk", "caching/"): 150, ("memory", "tests/"): -200}
#: The lines by which a part exceeds its budget since functions are watched and hits are sent as
#: they were made: no change may add one.
KNOWN = {
    ("memory", "caching/"): 653,
    ("disk", "caching/"): 538,
    ("redis", "caching/"): 596,
    ("disk", "all of the project"): 34,
}
#: The most lines of a file of caching/, and of its backend.py.
FILE, BACKEND = 300, 400
#: So many of the largest files of caching/ are printed.
LARGEST = 3
LINE = "{:<26}{:>8}{:>8} {:<4}{:>12}{:>10}"


class Row(NamedTuple):
    """The size of a part of a project."""

    name: str
    lines: int
    budget: int
    docstrings: int
    bytes: int

    @property
    def over(self) -> bool:
        """Whether it has more lines than it may have."""
        return self.lines > self.budget


def measure(project: Path, backend: str) -> list[Row]:
    """Return the size of each part, then of each file of caching/, the largest first."""
    texts = files(project)
    parts = [
        _row(name, {path: texts[path] for path in texts if belongs(path)}, budget)
        for name, (most, belongs) in PARTS.items()
        for budget in [most + MORE.get((backend, name), 0)]
    ]
    modules = [
        _row(
            path.removeprefix(SOURCE), {path: texts[path]}, BACKEND if "/backend." in path else FILE
        )
        for path in texts
        if path.startswith(CACHING)
    ]
    return parts + sorted(modules, key=lambda row: -row.lines)


def _row(name: str, texts: dict[str, bytes], budget: int) -> Row:
    lines = sum(text.count(b"\n") for text in texts.values())
    docstrings = sum(_docstrings(text) for path, text in texts.items() if path.endswith(".py"))
    return Row(name, lines, budget, docstrings, sum(map(len, texts.values())))


def _docstrings(text: bytes) -> int:
    """Return how many lines of a module are docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, documented)]
    strings = [node.body[0] for node in nodes if ast.get_docstring(node, clean=False) is not None]
    return sum((node.end_lineno or node.lineno) - node.lineno + 1 for node in strings)


def main() -> None:
    """Print the table of each backend, and the way of a request."""
    with tempfile.TemporaryDirectory(prefix="size-") as folder:
        for backend in BACKENDS:
            print(LINE.format(backend, "lines", "budget", "", "docstrings", "bytes"))
            rows = measure(bake_into(Path(folder), Answers(backend, tuple(ROUTES))), backend)
            for row in rows[: len(PARTS) + LARGEST]:
                numbers = [f"{n:,}" for n in (row.lines, row.budget, row.docstrings, row.bytes)]
                numbers.insert(2, "OVER" if row.over else "")
                print(LINE.format(row.name, *numbers))
            print()
    print(way.report("redis"))


if __name__ == "__main__":
    main()
