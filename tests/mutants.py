"""Breaks the engine in 60 small ways and tells which test notices each: `python -m tests.mutants`.

A mutant is one change to one module of `caching/` or `monitoring/` of a generated project. It is
killed by the first test that fails, or by the time limit if the tests hang; else it has survived.
"""

import argparse
import ast
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.baking import BACKENDS, ROOT, ROUTES, SLUG, Answers, bake_into
from tests.engine.conftest import OF_SOME

SEED = 9
MUTANTS = 60
#: The most seconds that the tests may take; the whole suite takes about 30.
LIMIT = 180
REPORT = ROOT / "build/mutants.json"
#: Packages of the project that are mutated.
PACKAGES = ("caching", "monitoring")
#: (module, before, after) of changes that nobody can notice, and why.
EQUIVALENT: dict[tuple[str, str, str], str] = {}

TURNED: dict[type[ast.cmpop], ast.cmpop] = {
    ast.Eq: ast.NotEq(),
    ast.NotEq: ast.Eq(),
    ast.Lt: ast.GtE(),
    ast.GtE: ast.Lt(),
    ast.Gt: ast.LtE(),
    ast.LtE: ast.Gt(),
    ast.Is: ast.IsNot(),
    ast.IsNot: ast.Is(),
    ast.In: ast.NotIn(),
    ast.NotIn: ast.In(),
}
CALCULATED: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(),
    ast.Sub: ast.Add(),
    ast.Mult: ast.FloorDiv(),
    ast.Div: ast.Mult(),
    ast.FloorDiv: ast.Mult(),
    ast.BitOr: ast.BitAnd(),
    ast.BitAnd: ast.BitOr(),
}
#: Calls and statements whose texts are for people only.
FOR_PEOPLE = re.compile(r"(logger|logging|warnings)\.|.*(Error|Warning|Exception)\(")


class Mutant(NamedTuple):
    """One change to one module, tried with the project of one backend."""

    id: str
    backend: str
    module: str
    line: int
    kind: str
    before: str
    after: str
    #: The module's text with the change.
    text: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line} ({self.backend}) {self.kind}: {self.change}"

    @property
    def change(self) -> str:
        """The change on one line."""
        return f"{_short(self.before)} -> {_short(self.after)}"


def _short(code: str) -> str:
    one_line = " ".join(code.split())
    return one_line if len(one_line) <= 70 else f"{one_line[:67]}..."


class Changes(ast.NodeVisitor):
    """Collects (function, node, kind, new code) for every change to a module."""

    def __init__(self) -> None:
        self.found: list[tuple[ast.AST | None, ast.AST, str, str]] = []
        self._function: ast.AST | None = None

    def _add(self, node: ast.AST, kind: str, after: ast.AST | str) -> None:
        code = after if isinstance(after, str) else f"({ast.unparse(after)})"
        self.found.append((self._function, node, kind, code))

    def _visit_all(self, *nodes: ast.AST | None) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:  # noqa: D102
        outer, self._function = self._function, self._function or node
        self._visit_all(*node.decorator_list, *node.args.defaults, *node.args.kw_defaults)
        self._visit_all(*node.body)
        self._function = outer

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:  # noqa: D102
        self._visit_all(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave f-strings alone: Python 3.11 does not tell where their parts are."""

    def visit_If(self, node: ast.If) -> None:  # noqa: D102
        if ast.unparse(node.test) == "TYPE_CHECKING":
            self._visit_all(*node.orelse)
            return
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:  # noqa: D102
        if not isinstance(node.test, ast.Constant):
            self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:  # noqa: D102
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:  # noqa: D102
        for condition in node.ifs:
            self._negate(condition)
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        if not isinstance(test, ast.Compare):  # that one is turned
            self._add(test, "negate", ast.UnaryOp(ast.Not(), test))

    def visit_Compare(self, node: ast.Compare) -> None:  # noqa: D102
        turned = [TURNED[type(node.ops[0])], *node.ops[1:]]
        self._add(node, "turn", ast.Compare(node.left, turned, node.comparators))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:  # noqa: D102
        swapped = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._add(node, "and/or", ast.BoolOp(swapped, node.values))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:  # noqa: D102
        if other := CALCULATED.get(type(node.op)):
            self._add(node, "calculate", ast.BinOp(node.left, other, node.right))
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:  # noqa: D102
        if node.value is not None and not isinstance(node.value, ast.Constant):
            self._add(node, "return", "return None")
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        """Leave it alone: its text is for people."""

    def visit_Expr(self, node: ast.Expr) -> None:  # noqa: D102
        if isinstance(node.value, ast.Constant):  # a docstring
            return
        if isinstance(node.value, ast.Call) and not FOR_PEOPLE.match(ast.unparse(node)):
            self._add(node, "drop", "pass")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:  # noqa: D102
        if FOR_PEOPLE.match(ast.unparse(node)):
            return
        if ast.unparse(node.func) in {"cast", "TypeVar", "ParamSpec", "NewType"}:
            return
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:  # noqa: D102
        value = node.value
        if isinstance(value, bool):
            self._add(node, "constant", repr(not value))
        elif isinstance(value, int | float):
            self._add(node, "constant", repr(value + 1))
        elif isinstance(value, str) and value and " " not in value:  # else it is for people
            self._add(node, "constant", repr(f"{value}_"))


def changes(module: str, text: str) -> Iterator[tuple[str, int, str, str, str, str]]:
    """Yield (id, line, kind, before, after, new text) of each change to a module."""
    offsets = [0]
    for line in text.encode().splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    finder = Changes()
    finder.visit(ast.parse(text))
    seen: dict[str, int] = defaultdict(int)
    for function, node, kind, after in finder.found:
        assert isinstance(node, ast.expr | ast.stmt)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = offsets[node.lineno - 1] + node.col_offset
        end = offsets[node.end_lineno - 1] + node.end_col_offset
        before = text.encode()[begin:end].decode()
        new = (text.encode()[:begin] + after.encode() + text.encode()[end:]).decode()
        within = ast.unparse(function) if function else ""
        about = repr((module, within, kind, " ".join(before.split()), after))
        seen[about] += 1
        id = _digest(about, seen[about])
        if (module, before, after) not in EQUIVALENT:
            yield id, node.lineno, kind, before, after, new


def _digest(*about: object) -> str:
    return hashlib.sha256(repr((SEED, *about)).encode()).hexdigest()[:12]


def mutants(projects: dict[str, Path]) -> list[Mutant]:
    """Choose the mutants, from each module in proportion to the changes that it allows.

    What is chosen in one module depends on nothing but its own text, as far as the numbers of the
    others allow; the kinds of change take turns.
    """
    texts: dict[tuple[str, str], list[str]] = defaultdict(list)  # (module, text) -> backends
    for backend, project in projects.items():
        package = project / f"src/{SLUG}"
        for part in PACKAGES:
            for path in sorted(package.joinpath(part).rglob("*.py")):
                texts[path.relative_to(package).as_posix(), path.read_text()].append(backend)
    possible = {key: list(changes(*key)) for key in sorted(texts)}
    total = sum(map(len, possible.values()))
    shares = {key: MUTANTS * len(found) / total for key, found in possible.items()}
    counts = {key: math.floor(share) for key, share in shares.items()}
    by_rest = sorted(shares, key=lambda key: counts[key] - shares[key])
    for key in by_rest[: MUTANTS - sum(counts.values())]:
        counts[key] += 1
    chosen = []
    for (module, text), found in possible.items():
        by_kind: dict[str, list[tuple[str, int, str, str, str, str]]] = defaultdict(list)
        for change in sorted(found):
            by_kind[change[2]].append(change)
        turns = sorted(
            (turn, *change) for same in by_kind.values() for turn, change in enumerate(same)
        )
        for _, id, line, kind, before, after, new in turns[: counts[module, text]]:
            backends = texts[module, text]
            backend = backends[int(_digest(id, "backend"), 16) % len(backends)]
            chosen.append(Mutant(id, backend, module, line, kind, before, after, new))
    return chosen


def in_order(tests: list[str], module: str) -> list[str]:
    """Put the tests with a name like the module's first, then those of its package."""
    package, _, name = module.removesuffix(".py").rpartition("/")

    def rank(test: str) -> tuple[bool, bool, str]:
        unlike = name.removesuffix("s") not in test.rpartition("/")[2]
        return unlike, ("monitoring" in package) != ("monitoring" in test), test

    return sorted(tests, key=rank)


def try_one(mutant: Mutant, project: Path) -> dict[str, object]:
    """Run the tests against a copy of the project with the mutant; return what became of it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / SLUG
        shutil.copytree(project, copy, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / f"src/{SLUG}" / mutant.module).write_text(mutant.text)
        fate = run_tests(mutant, copy, Path(folder))
    return {
        "id": mutant.id,
        "backend": mutant.backend,
        "where": f"{mutant.module}:{mutant.line}",
        "kind": mutant.kind,
        "change": mutant.change,
        "fate": fate,
        "seconds": round(time.monotonic() - began, 1),
    }


def run_tests(mutant: Mutant, project: Path, scratch: Path) -> str:
    """Return the test that the mutant fails, "timeout" or "survived"."""
    tests = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests/engine").rglob("test_*.py")
        if path.parent.name not in OF_SOME or mutant.backend in OF_SOME[path.parent.name]
    ]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=no"]
    command += ["-p", "no:cacheprovider", f"--backend={mutant.backend}", f"--project={project}"]
    command += in_order(tests, mutant.module)
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith(("FLASK_", "PYTEST_"))}
        | {"COLUMNS": "1000", "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return "timeout"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with the servers that the tests started
        process.wait()
    if process.returncode == 0:
        return "survived"
    if failed := re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output, re.MULTILINE):
        return failed[1]
    return f"pytest: {(output.strip().splitlines() or ['exit'])[-1]}"


def compare(now: list[dict[str, object]], before: list[dict[str, object]]) -> int:
    """Print the mutants whose fate differs; return 1 if one that died now lives."""
    fates = {one["id"]: one["fate"] for one in before}
    resurrected = 0
    for one in now:
        if one["id"] not in fates:
            print(f"new: {one['where']} {one['change']}")
            continue
        was = fates[one["id"]]
        if (was == "survived") != (one["fate"] == "survived"):
            print(f"{one['where']} {one['change']}: was {was}, now {one['fate']}")
            resurrected += one["fate"] == "survived"
    gone = fates.keys() - {one["id"] for one in now}
    print(f"{resurrected} lives that died; {len(gone)} of the other report are not here")
    return 1 if resurrected else 0


def main() -> int:
    """Try the mutants; return 1 if one survived, with --compare if one that died now lives."""
    parser = argparse.ArgumentParser(description="See which tests notice 60 small faults.")
    parser.add_argument("--only", default="", metavar="N,M", help="the numbers of some mutants")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="the report of another run")
    parser.add_argument("--report", type=Path, default=REPORT, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        projects = {
            backend: bake_into(Path(folder) / backend, Answers(backend, tuple(ROUTES)))
            for backend in BACKENDS
        }
        numbered = list(enumerate(mutants(projects), 1))
        if options.only:
            numbers = {int(number) for number in options.only.split(",")}
            numbered = [(number, one) for number, one in numbered if number in numbers]
        print(f"seed {SEED}, {len(numbered)} mutants", flush=True)
        if options.list:
            for number, mutant in numbered:
                print(f"{number:2} {mutant}")
            return 0
        with ThreadPoolExecutor(2) as pool:
            tried = pool.map(lambda one: try_one(one[1], projects[one[1].backend]), numbered)
            results = []
            for (number, mutant), result in zip(numbered, tried, strict=True):
                results.append({"number": number, **result})
                print(f"{number:2} {mutant}\n   {result['fate']}", flush=True)
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(json.dumps(results, indent=1) + "\n")
    survived = sum(result["fate"] == "survived" for result in results)
    print(f"{len(results) - survived} killed, {survived} survived; the report is {options.report}")
    if options.compare:
        return compare(results, json.loads(options.compare.read_text()))
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
