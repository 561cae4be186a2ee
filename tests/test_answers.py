"""Answers that are accepted, refused or hostile."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cookiecutter.exceptions import FailedHookException
from cookiecutter.main import cookiecutter

from tests.baking import BACKENDS, PRODUCT, QUESTIONS, ROOT, Answers

ORDER = [
    "project_name",
    "project_slug",
    "author",
    "cache_backend",
    "default_timeout",
    "route_hello",
    "route_user",
    "route_daily_stats",
    "route_stats",
    "route_recent_posts",
]
FINE = Answers("memory", ("hello", "recent_posts")).context


def test_the_questions_are_those_of_the_design_in_its_order() -> None:
    assert [name for name in QUESTIONS if not name.startswith("_")] == ORDER


def test_every_question_and_every_choice_has_a_label() -> None:
    prompts = QUESTIONS["__prompts__"]
    assert list(prompts) == ORDER
    assert list(prompts["cache_backend"]) == ["__prompt__", *BACKENDS]
    # Text in brackets is markup to Rich, and disappears.
    assert "[" not in json.dumps(list(prompts.values())).strip("[]")


def test_the_product_of_all_answers_is_checked() -> None:
    assert len(PRODUCT) == len(set(PRODUCT)) == len(BACKENDS) * 2**5


def test_the_slug_follows_from_the_name(bake: Callable[..., Any]) -> None:
    assert bake(project_name="Caf\u00e9 No. 5!").project_path.name == "cafe_no_5"


REFUSED = {
    "project_slug": [
        *("../x", "/tmp/x", "a/b", "a\\b", ".hidden", "a b", "a-b", "1a", "_a", "A"),
        *("caf\u00e9", "class", "match", "json", "flask", "redis", "tests", "src", "docs"),
        "x" * 41,
    ],
    "default_timeout": [
        *("", "-1", "1.5", "3e2", "five", "31536001", "007", "+5", "1_000", "\u0663\u0660"),
        *("300 ", "9" * 30),
    ],
    "project_name": ["", " ", "a\nb", "a\x00b", "a\x1bb", "a\u2028b", "a\u202eb"],
    "author": ["a\nb", "a\rb", "a\x7fb", "a\u2029b"],
}


@pytest.mark.parametrize(
    ("question", "answer"),
    [(question, answer) for question, answers in REFUSED.items() for answer in answers],
    ids=ascii,
)
def test_a_bad_answer_is_refused_with_a_value_that_works(
    question: str, answer: str, bake: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    result = bake(**FINE | {question: answer})
    assert result.exit_code != 0
    assert result.project_path is None
    line = next(
        line for line in capfd.readouterr().err.splitlines() if line.startswith(f"- {question} = ")
    )
    works = line.rpartition("What works: ")[2]
    assert bake(**FINE | {question: works}).exception is None


@pytest.mark.parametrize("slug", ["", "."])
def test_a_slug_that_names_the_current_folder_is_refused_with_force_too(
    slug: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without -f Cookiecutter itself refuses: the folder exists."""
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(FailedHookException):
        cookiecutter(
            str(ROOT),
            no_input=True,
            extra_context=FINE | {"project_slug": slug},
            output_dir=str(tmp_path),
            overwrite_if_exists=True,
        )
    assert "What works: " in capfd.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("template", ["{{ 7*7 }}", "{% if x %}", "{# x #}"])
@pytest.mark.parametrize("question", ["project_name", "author"])
def test_a_typed_answer_with_template_code_is_refused(
    question: str, template: str, bake: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """On the command line Jinja renders it first, so it is written here to come out as typed."""
    literal = "{% raw %}" + template + "{% endraw %}"
    if "raw" in template or template.startswith("{#"):
        literal = "{{ '" + template + "' }}"
    assert bake(**FINE | {question: literal}).exit_code != 0
    assert f"- {question} = " in capfd.readouterr().err


def test_all_problems_are_reported_at_once_and_nothing_is_left(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = {question: answers[-1] for question, answers in REFUSED.items()}
    with pytest.raises(FailedHookException):
        cookiecutter(str(ROOT), no_input=True, extra_context=FINE | bad, output_dir=str(tmp_path))
    errors = capfd.readouterr().err
    assert all(f"- {question} = " in errors for question in bad)
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_a_replayed_answer_that_is_no_choice_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Cookiecutter does not check the choices of replayed answers."""
    private = {name: value for name, value in QUESTIONS.items() if name.startswith("_")}
    replay = tmp_path / "replay.json"
    answers = FINE | {"cache_backend": "carrier-pigeon", "route_user": "maybe"}
    replay.write_text(json.dumps({"cookiecutter": private | answers}))
    with pytest.raises(FailedHookException):
        cookiecutter(str(ROOT), replay=str(replay), output_dir=str(tmp_path / "out"))
    errors = capfd.readouterr().err
    assert "- cache_backend = 'carrier-pigeon'" in errors
    assert "- route_user = 'maybe'" in errors


HOSTILE = [
    'quote " in it',
    "it's",
    "back\\slash \\n \\",
    '"""',
    "'''",
    "# comment",
    "[brackets] = x",
    "</script><b>",
    "$(touch hacked) `touch hacked` $HOME",
    "%s %(x)s %%",
    "\N{SNOWMAN} \N{GRINNING FACE} e\u0301",
    "'; import os; os.abort(); '",
    "a: b, - c",
    "x" * 300,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:20])
def test_hostile_text_arrives_as_it_was_and_does_nothing(
    text: str, bake: Callable[..., Any]
) -> None:
    result = bake(**FINE | {"project_name": text, "author": text})
    assert result.exception is None
    root: Path = result.project_path
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert (project["description"], project["authors"]) == (text, [{"name": text}])
    assert f"# {text}\n" in (root / "README.md").read_text()
    done = subprocess.run(
        [sys.executable, "-c", "import shop; print(shop.create_app({'SECRET_KEY': 'k'}).name)"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "shop\n"
    assert not list(root.rglob("hacked"))


def test_no_author_is_fine(bake: Callable[..., Any]) -> None:
    root = bake(**FINE | {"author": ""}).project_path
    assert "authors" not in tomllib.loads((root / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_next_steps_are_printed_for_this_project(
    backend: str, bake: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    project = bake(**FINE | {"cache_backend": backend}).project_path
    printed = capfd.readouterr().out
    assert f"cd {project}\n" in printed
    assert "make run" in printed
    assert ("redis-server" in printed) == (backend == "redis")
