"""How far a request goes through the code of a project, and which of its modules import which."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

from tests.baking import BACKENDS, ROUTES, SLUG, Answers, each
from tests.way import BUDGET, Way, follow, measure


@pytest.fixture(scope="module")
def ways() -> dict[str, Way]:
    return {name: measure(calls) for name, calls in follow("redis").items()}


@pytest.mark.xdist_group("way")
@pytest.mark.parametrize("name", BUDGET)
def test_the_way_of_a_request_is_short(name: str, ways: dict[str, Way]) -> None:
    way, budget = ways[name], BUDGET[name]
    assert all(n <= most for n, most in zip(way, budget, strict=True)), f"{way}, not {budget}"


def test_a_request_starts_no_event_loop(project: Callable[[Answers], Path]) -> None:
    """Flask-SQLAlchemy-Lite closes asynchronous sessions in one, for half a millisecond."""
    script = (
        "import shop, sys\n"
        "assert shop.create_app({'DEBUG': True}).test_client().get('/healthz').status_code == 200\n"
        "assert 'asgiref' not in sys.modules, 'asgiref runs asynchronous functions for Flask'"
    )
    source = project(Answers("memory", ("user",))) / "src"
    env = os.environ | {"PYTHONPATH": str(source)}
    subprocess.run([sys.executable, "-c", script], cwd=source.parent, env=env, check=True)


def own_names(package: ast.Module) -> Iterator[str]:
    """Yield the names that a package defines, or imports from one of its modules."""
    for node in package.body:
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (alias.asname or alias.name for alias in node.names)


def imports(source: Path) -> dict[str, set[str]]:
    """Return which modules below `source` each of them imports, for types as well.

    `from .package import name` imports the module `name`, unless the package defines that name.
    """
    paths = {
        ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__"): path
        for path in source.rglob("*.py")
    }
    trees = {name: ast.parse(path.read_text()) for name, path in paths.items()}
    found: dict[str, set[str]] = {}
    for name, path in paths.items():
        parent = name if path.name == "__init__.py" else name.rpartition(".")[0]
        found[name] = set()
        for node in ast.walk(trees[name]):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = resolve_name("." * node.level + (node.module or ""), parent)
                own = set(own_names(trees[base])) if base in trees else set()
                for alias in node.names:
                    module = f"{base}.{alias.name}"
                    found[name].add(module if module in paths and alias.name not in own else base)
        found[name] &= paths.keys() - {name}
    return found


@each([Answers(backend, tuple(ROUTES)) for backend in BACKENDS])
def test_no_modules_import_each_other(answers: Answers, project: Callable[[Answers], Path]) -> None:
    found = imports(project(answers) / "src")
    assert f"{SLUG}.caching" in found[f"{SLUG}.routes.recent_posts"]
    try:
        TopologicalSorter(found).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@each([Answers(backend, tuple(ROUTES)) for backend in BACKENDS])
def test_caching_imports_nothing_of_the_rest(
    answers: Answers, project: Callable[[Answers], Path]
) -> None:
    caching = f"{SLUG}.caching"
    for name, others in imports(project(answers) / "src").items():
        if name.startswith(caching):
            assert all(other.startswith(caching) for other in others), f"{name}: {others}"
