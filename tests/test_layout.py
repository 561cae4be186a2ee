"""Which files a project has, for each combination of answers."""

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.baking import BACKENDS, EDGES, PRODUCT, QUESTIONS, ROOT, ROUTES, Answers, each, files

ALWAYS = """
    .dockerignore .env.example .gitattributes .github/workflows/ci.yml .gitignore Dockerfile
    Makefile README.md compose.yaml docs/caching.md pyproject.toml
    ops/prometheus/prometheus.yml ops/prometheus/rules.yml ops/prometheus/rules_test.yml
    ops/grafana/datasources/prometheus.yml
    ops/grafana/dashboards/provider.yml ops/grafana/dashboards/cache.json
    src/shop/__init__.py src/shop/py.typed src/shop/settings.py
    src/shop/caching/__init__.py src/shop/caching/backend.py src/shop/caching/cache.py
    src/shop/caching/cached.py src/shop/caching/entry.py src/shop/caching/keys.py
    src/shop/caching/lru.py src/shop/caching/page.py
    src/shop/caching/engine.py src/shop/caching/failsafe.py src/shop/caching/single_flight.py
    src/shop/caching/events.py
    src/shop/monitoring/__init__.py src/shop/monitoring/commands.py src/shop/monitoring/metrics.py
    src/shop/monitoring/report.py src/shop/monitoring/usage.py src/shop/monitoring/views.py
    src/shop/monitoring/workers.py src/shop/monitoring/static/icon.svg
    src/shop/monitoring/static/index.html src/shop/monitoring/static/live.css
    src/shop/monitoring/static/live.js
    src/shop/routes/__init__.py
    tests/backend.py tests/conftest.py tests/test_app.py tests/test_settings.py
    tests/caching/test_backend.py tests/caching/test_contract.py tests/caching/test_engine.py
    tests/caching/test_events.py
    tests/caching/test_failsafe.py tests/caching/test_faults.py tests/caching/test_flask_caching.py
    tests/caching/test_lru.py tests/caching/test_memoize.py tests/caching/test_pages.py
    tests/caching/test_single_flight.py tests/caching/test_values.py
    tests/monitoring/test_commands.py tests/monitoring/test_metrics.py
    tests/monitoring/test_views.py
"""
SHARED = [
    "src/shop/caching/signing.py",
    "tests/caching/test_shared.py",
    "tests/caching/test_workers.py",
    "tests/monitoring/test_shared.py",
]
OF_BACKEND = {
    "memory": ["tests/monitoring/test_local.py"],
    "disk": [*SHARED, "tests/caching/test_outages.py"],
    "redis": [*SHARED, "tests/caching/test_outages.py"],
}


def expected(answers: Answers) -> set[str]:
    """Return the files that a project with these answers has."""
    names = {*ALWAYS.split(), *OF_BACKEND[answers.backend]}
    for route in answers.routes:
        names |= {f"src/shop/routes/{route}.py", f"tests/routes/test_{route}.py"}
    if answers.database:
        names |= {"src/shop/models.py", "tests/database.py"}
    return names


@each(PRODUCT + EDGES)
def test_a_project_has_exactly_the_files_of_its_answers(
    answers: Answers, project: Callable[[Answers], Path]
) -> None:
    assert set(files(project(answers))) == expected(answers)


@each([Answers("redis", tuple(ROUTES))])
def test_two_bakes_are_identical(answers: Answers, bake: Callable[..., Any]) -> None:
    one, other = (bake(**answers.context).project_path for _ in range(2))
    assert files(one) == files(other)


def changes() -> list[tuple[str, object]]:
    """Return another answer than the usual for each question, and each choice."""
    return [
        ("project_name", "Another"),
        ("project_slug", "another"),
        ("author", "Grace Hopper"),
        *(("cache_backend", backend) for backend in BACKENDS if backend != "redis"),
        ("default_timeout", "60"),
        *((f"route_{route}", False) for route in ROUTES),
    ]


def test_every_question_has_a_change() -> None:
    asked = {name for name in QUESTIONS if not name.startswith("_")}
    assert {name for name, _ in changes()} == asked


@pytest.mark.parametrize(("question", "answer"), changes())
def test_every_answer_changes_something(
    question: str, answer: object, bake: Callable[..., Any]
) -> None:
    usual = Answers("redis", tuple(ROUTES)).context
    digests = {
        hashlib.sha256(repr(files(bake(**context).project_path)).encode()).hexdigest()
        for context in (usual, usual | {question: answer})
    }
    assert len(digests) == 2


def test_no_python_of_the_template_has_a_jinja_statement() -> None:
    for path in (ROOT / "{{cookiecutter.project_slug}}").rglob("*.py*"):
        if path.is_file() and path.suffix != ".pyc":
            assert "{%" not in path.read_text(), path


def test_a_clone_fits_into_a_deep_folder_of_windows() -> None:
    """Windows allows 260 characters in a path, and clones go into deep folders."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [path for path in listed.stdout.split("\0") if len(path) > 120] == []
