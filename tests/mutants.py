"""Breaks the engine in 60 small ways and names the test that notices each.

A mutant is one change to one module of `caching/` or `monitoring/` in a generated project. The
first test that fails kills it, and so does the time limit if the tests hang; else it survives.
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
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from tests.baking import BACKENDS, ROOT, ROUTES, SLUG, Answers, bake_into
from tests.engine.conftest import OF_SOME

SEED = 9
MUTANTS = 60
#: The most seconds that the tests may take; the whole suite takes about 30.
LIMIT = 180
REPORT = ROOT / "build/mutants.json"
#: The packages that are mutated.
PACKAGES = ("caching", "monitoring")
#: Mutants that behave as the original does: their ids, as `--list` prints them, and the reason.
EQUIVALENT: dict[str, str] = {}

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
#: Calls whose texts are for people only.
FOR_PEOPLE = re.compile(r"(logger|logging|warnings)\.|.*(Error|Warning|Exception)\(")
#: Calls that only declare types.
FOR_TYPES = {"cast", "TypeVar", "ParamSpec"}
#: (node, kind, replacement)
Change = tuple[ast.expr | ast.stmt, str, ast.expr | str]


class Mutant(NamedTuple):
    """One change to one module, tried with the project of one backend."""

    id: str
    module: str
    line: int
    kind: str
    before: str
    after: str
    #: The module's text with the change.
    text: str
    backend: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line} ({self.backend}) {self.kind}: {self.change}"

    @property
    def change(self) -> str:
        """The change on one line."""
        return f"{_short(self.before)} -> {_short(self.after)}"


def _short(code: str) -> str:
    one_line = " ".join(code.split())
    return one_line if len(one_line) <= 70 else f"{one_line[:67]}..."


def changeable(node: ast.AST, function: ast.AST | None = None) -> Iterator[tuple[Any, ast.AST]]:
    """Yield `node` and all in it that may be changed, each after the function that it is in.

    Left out are docstrings, annotations and texts for people, and parts of f-strings, since Python
    3.11 does not say where they are.
    """
    parts: Sequence[ast.AST] = list(ast.iter_child_nodes(node))
    match node:
        case ast.Raise() | ast.JoinedStr() | ast.Expr(ast.Constant()):
            return
        case ast.Call() | ast.Expr(ast.Call()) if FOR_PEOPLE.match(ast.unparse(node)):
            return
        case ast.Call(ast.Name(name)) if name in FOR_TYPES:
            return
        case ast.If(ast.Name("TYPE_CHECKING"), _, parts):
            pass
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            function = function or node
            defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            parts = [*node.decorator_list, *defaults, *node.body]
        case ast.AnnAssign():
            parts = [node.value] if node.value else []
    yield function, node
    for part in parts:
        yield from changeable(part, function)


def changes_of(node: ast.AST) -> Iterator[Change]:
    """Yield each change that a node allows."""
    match node:
        case ast.If(test) | ast.While(test) | ast.IfExp(test):
            yield from _negated(test)
        case ast.comprehension():
            for test in node.ifs:
                yield from _negated(test)
        case ast.Compare(left, [op, *ops], others):
            yield node, "turn", ast.Compare(left, [TURNED[type(op)], *ops], others)
        case ast.BoolOp(op, values):
            other = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield node, "and/or", ast.BoolOp(other, values)
        case ast.BinOp(left, op, right) if type(op) in CALCULATED:
            yield node, "calculate", ast.BinOp(left, CALCULATED[type(op)], right)
        case ast.Return(ast.expr() as value) if not isinstance(value, ast.Constant):
            yield node, "return", "return None"
        case ast.Expr(ast.Call()):
            yield node, "drop", "pass"
        case ast.Constant(bool() as value):
            yield node, "constant", repr(not value)
        case ast.Constant(int() | float() as value):
            yield node, "constant", repr(value + 1)
        case ast.Constant(str() as value) if value and " " not in value:  # else it is for people
            yield node, "constant", repr(f"{value}_")


def _negated(test: ast.expr) -> Iterator[Change]:
    if not isinstance(test, ast.Compare | ast.Constant):  # a comparison is turned
        yield test, "negate", ast.UnaryOp(ast.Not(), test)


def mutants_of(module: str, text: str, backends: list[str]) -> Iterator[Mutant]:
    """Yield every mutant of a module, which is the same with these backends."""
    code = text.encode()
    offsets = [0, *accumulate(map(len, code.splitlines(keepends=True)))]
    found = [
        (ast.unparse(function) if function else "", *change)
        for function, node in changeable(ast.parse(text))
        for change in changes_of(node)
    ]
    seen = Counter[str]()
    for function, node, kind, new in found:
        begin = offsets[node.lineno - 1] + node.col_offset
        end = offsets[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        before = code[begin:end].decode()
        after = new if isinstance(new, str) else f"({ast.unparse(new)})"
        changed = (code[:begin] + after.encode() + code[end:]).decode()
        about = repr((module, function, kind, " ".join(before.split()), after))
        seen[about] += 1
        id = _digest(about, seen[about])
        backend = backends[int(_digest(id, "backend"), 16) % len(backends)]
        if id not in EQUIVALENT:
            yield Mutant(id, module, node.lineno, kind, before, after, changed, backend)


def _digest(*about: object) -> str:
    return hashlib.sha256(repr((SEED, *about)).encode()).hexdigest()[:12]


def mutants(projects: dict[str, Path]) -> list[Mutant]:
    """Choose the mutants, from each module in proportion to the changes that it allows.

    The kinds of change take turns, in an order that depends on the changes alone, so that most of
    the mutants stay the same when some code changes.
    """
    texts: dict[tuple[str, str], list[str]] = defaultdict(list)  # (module, text) -> backends
    for backend, project in projects.items():
        package = project / f"src/{SLUG}"
        for part in PACKAGES:
            for path in sorted(package.joinpath(part).rglob("*.py")):
                texts[path.relative_to(package).as_posix(), path.read_text()].append(backend)
    possible = {
        (module, text): sorted(mutants_of(module, text, backends))
        for (module, text), backends in sorted(texts.items())
    }
    total = sum(map(len, possible.values()))
    shares = {key: MUTANTS * len(found) / total for key, found in possible.items()}
    counts = {key: math.floor(share) for key, share in shares.items()}
    by_rest = sorted(shares, key=lambda key: counts[key] - shares[key])
    for key in by_rest[: MUTANTS - sum(counts.values())]:
        counts[key] += 1
    chosen = []
    for key, found in possible.items():
        kinds = Counter[str]()
        turns = []
        for mutant in found:
            turns.append((kinds[mutant.kind], mutant))
            kinds[mutant.kind] += 1
        chosen += [mutant for _, mutant in sorted(turns)[: counts[key]]]
    return chosen


def in_order(tests: list[str], module: str) -> list[str]:
    """Put the tests with a name like the module's first, then those of its package."""
    package, _, name = module.removesuffix(".py").rpartition("/")

    def rank(test: str) -> tuple[bool, bool, str]:
        unlike = name.removesuffix("s") not in test.rpartition("/")[2]
        return unlike, ("monitoring" in package) != ("monitoring" in test), test

    return sorted(tests, key=rank)


def try_one(mutant: Mutant, project: Path) -> dict[str, object]:
    """Run the tests against a copy of the project with the mutant; return the report's entry."""
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
    """Return the test that the mutant fails, "timeout" or "survived".

    A test counts only if it fails again on its own: a busy machine may fail one at random.
    """
    tests = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests/engine").rglob("test_*.py")
        if path.parent.name not in OF_SOME or mutant.backend in OF_SOME[path.parent.name]
    ]
    options = [f"--backend={mutant.backend}", f"--project={project}"]
    suite = [*options, *in_order(tests, mutant.module)]
    while True:
        killer = failing_test(suite, scratch)
        if "::" not in killer or killer == failing_test([*options, killer], scratch):
            return killer
        suite.append(f"--deselect={killer}")


def failing_test(arguments: list[str], scratch: Path) -> str:
    """Return the first test that fails, "timeout" or "survived"."""
    pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=no"]
    process = subprocess.Popen(
        [*pytest, "-p", "no:cacheprovider", *arguments],
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
    parser.add_argument("--only", default="", metavar="N,M", help="try these numbers only")
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
                print(f"{number:2} {mutant}   {mutant.id}")
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
