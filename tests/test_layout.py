"""Which files a project has, for each combination of answers."""

import hashlib
import re
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
    src/shop/__init__.py src/shop/prepare.py src/shop/py.typed src/shop/settings.py
    src/shop/caching/__init__.py src/shop/caching/backend.py src/shop/caching/cache.py
    src/shop/caching/advice.py src/shop/caching/codec.py src/shop/caching/events.py
    src/shop/caching/failsafe.py src/shop/caching/functions.py src/shop/caching/keys.py
    src/shop/caching/leases.py src/shop/caching/look.py src/shop/caching/lru.py
    src/shop/caching/pages.py src/shop/caching/rules.py src/shop/caching/views.py
    src/shop/caching/parts.py src/shop/caching/visitor.py
    src/shop/caching/watch.py
    src/shop/monitoring/__init__.py src/shop/monitoring/commands.py src/shop/monitoring/metrics.py
    src/shop/monitoring/report.py src/shop/monitoring/usage.py src/shop/monitoring/views.py
    src/shop/monitoring/workers.py src/shop/monitoring/static/icon.svg
    src/shop/monitoring/static/index.html src/shop/monitoring/static/live.css
    src/shop/monitoring/static/live.js
    src/shop/routes/__init__.py
    tests/backend.py tests/conftest.py tests/test_app.py tests/test_settings.py
    tests/caching/test_backend.py tests/caching/test_failing_backend.py
    tests/caching/test_functions.py tests/caching/test_lru.py tests/caching/test_pages.py
    tests/monitoring/conftest.py tests/monitoring/test_commands.py
    tests/monitoring/test_metrics.py tests/monitoring/test_views.py
"""


def expected(answers: Answers) -> set[str]:
    """Return the files that a project with these answers has."""
    names = set(ALWAYS.split())
    if QUESTIONS["_backends"][answers.backend]["shared"]:
        names.add("tests/caching/test_processes.py")
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
            # What depends on an answer is a file of its own, which may be included.
            assert not re.search(r"{%(?! include )", path.read_text()), path


def test_a_clone_fits_into_a_deep_folder_of_windows() -> None:
    """Windows allows 260 characters in a path, and clones go into deep folders."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [path for path in listed.stdout.split("\0") if len(path) > 120] == []
