"""Projects come out the same under each Cookiecutter, however the answers are given."""

import fcntl
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.baking import BACKENDS, PRODUCT, QUESTIONS, ROOT, ROUTES, Answers, files

pytestmark = pytest.mark.xdist_group("cookiecutter")

#: The oldest that works, the last one that leaves booleans of the command line as text, and ours.
VERSIONS = ["2.2.0", "2.6.0", ""]
TOO_OLD = ["1.7.3", "2.1.1"]
#: The words for yes and no that Cookiecutter's prompts accept, in any case.
YES, NO = (
    [spell(word) for word in words for spell in (str, str.upper, str.title, "  {} ".format)]
    for words in (QUESTIONS["_yes"], QUESTIONS["_no"])
)
#: Bakes once for each line of JSON, the keyword arguments of `cookiecutter`.
BAKE = f"""
import json, sys
from cookiecutter.main import cookiecutter

for line in sys.stdin:
    cookiecutter({str(ROOT)!r}, **json.loads(line))
"""


@pytest.fixture(scope="session")
def python() -> Callable[[str], str]:
    """Return the Python that has a version of Cookiecutter, in an environment below build/."""

    def python(version: str) -> str:
        if not version:
            return sys.executable
        folder = ROOT / f"build/cookiecutter-{version}"
        folder.parent.mkdir(exist_ok=True)
        with folder.with_name(f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another process of the tests may make it just now
            if not (folder / "made").exists():
                uv, wanted = Path(sys.executable).with_name("uv"), f"cookiecutter=={version}"
                place = ["-p", sys.executable, str(folder)]
                subprocess.run([uv, "venv", "-q", "--clear", *place], check=True)
                subprocess.run([uv, "pip", "install", "-q", "-p", folder, wanted], check=True)
                (folder / "made").touch()
        return str(folder / "bin/python")

    return python


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which Cookiecutter keeps its own files in `tmp_path`."""
    config = tmp_path / "config.yaml"
    config.write_text(f"replay_dir: '{tmp_path}'\ncookiecutters_dir: '{tmp_path}'\n")
    return os.environ | {"COOKIECUTTER_CONFIG": str(config)}


def in_words(answers: Answers, words: Callable[[bool], Any]) -> dict[str, Any]:
    """Return the answers, and for each route one of the words for yes or no."""
    return {
        name: words(answer) if name.startswith("route_") else answer
        for name, answer in answers.context.items()
    }


def test_every_route_follows_its_answer_in_any_words() -> None:
    assert list(QUESTIONS["_routes"]) == ROUTES


@pytest.mark.parametrize("version", VERSIONS)
def test_each_combination_is_the_same_with_answers_in_any_words(
    version: str,
    python: Callable[[str], str],
    env: dict[str, str],
    project: Callable[[Answers], Path],
    tmp_path: Path,
) -> None:
    """As extra context is what the command line becomes."""
    yes, no = itertools.cycle(YES), itertools.cycle(NO)
    combinations = [one for one in PRODUCT if one.backend == "redis"] + [
        Answers(backend, ("user",)) for backend in BACKENDS
    ]
    bakes = [
        {
            "no_input": True,
            "extra_context": in_words(one, lambda answer: next(yes if answer else no)),
            "output_dir": str(tmp_path / str(one)),
            "overwrite_if_exists": True,
        }
        for one in combinations
    ]
    lines = "\n".join(map(json.dumps, bakes))
    subprocess.run([python(version), "-c", BAKE], input=lines, text=True, env=env, check=True)
    for one in combinations:
        assert files(tmp_path / str(one) / "shop") == files(project(one)), one


@pytest.mark.parametrize("version", VERSIONS)
def test_a_configuration_file_gives_the_same_and_so_does_a_replay(
    version: str,
    python: Callable[[str], str],
    env: dict[str, str],
    project: Callable[[Answers], Path],
    tmp_path: Path,
) -> None:
    answers = Answers("disk", ("hello", "daily_stats"))
    yes, no = iter(["true", "1"]), iter(["false", "'no'", "0"])  # YAML: booleans, text, numbers
    words = in_words(answers, lambda answer: next(yes if answer else no))
    config = tmp_path / "config.yaml"
    lines = "".join(f"\n  {name}: {answer}" for name, answer in words.items())
    config.write_text(f"{config.read_text()}default_context:{lines}\n")
    command = [python(version), "-m", "cookiecutter", "-o"]
    for folder, option in (("first", "--no-input"), ("again", "--replay")):
        subprocess.run([*command, tmp_path / folder, option, ROOT], env=env, check=True)
        assert files(tmp_path / folder / "shop") == files(project(answers)), folder


@pytest.mark.parametrize("version", VERSIONS)
def test_typed_answers_give_the_same(
    version: str,
    python: Callable[[str], str],
    env: dict[str, str],
    project: Callable[[Answers], Path],
    tmp_path: Path,
) -> None:
    answers = Answers("disk", ("user", "stats"), "60")
    typed = "Shop\n\nAda Lovelace\n2\n60\nn\ny\nn\n\nn\n"
    command = [python(version), "-m", "cookiecutter", "-o", str(tmp_path), str(ROOT)]
    subprocess.run(command, env=env, input=typed, text=True, check=True)
    assert files(tmp_path / "shop") == files(project(answers))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("answer", ["maybe", ""])
def test_an_answer_that_is_no_word_for_yes_or_no_is_refused(
    answer: str, version: str, python: Callable[[str], str], env: dict[str, str], tmp_path: Path
) -> None:
    """By our hook, or by Cookiecutter since 2.7."""
    command = [python(version), "-m", "cookiecutter", "--no-input", "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, str(ROOT), f"route_hello={answer}"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "route_hello" in done.stderr
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("version", TOO_OLD)
def test_a_cookiecutter_that_is_too_old_is_told_which_one_works(
    version: str, python: Callable[[str], str], env: dict[str, str], tmp_path: Path
) -> None:
    command = [python(version), "-m", "cookiecutter", "--no-input", "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, str(ROOT)], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "needs Cookiecutter 2.2 or later" in done.stderr
    assert "pip install --upgrade 'cookiecutter>=2.2'" in done.stderr
    assert not list((tmp_path / "out").glob("*"))


def test_the_readme_names_the_oldest_version_that_works() -> None:
    assert "Cookiecutter 2.2 or later" in (ROOT / "README.md").read_text()
    assert VERSIONS[0].startswith("2.2.")


@pytest.mark.parametrize(
    ("question", "answer", "named"),
    [
        ("route_user", False, "__routes"),
        ("route_stats", "yes", "__routes"),
        ("cache_backend", "disk", "__disk"),
        ("project_slug", "kiosk", "__pkg"),
    ],
)
def test_a_replayed_file_that_was_edited_in_part_is_refused(
    question: str, answer: object, named: str, env: dict[str, str], tmp_path: Path
) -> None:
    """Its derived values are those of the former answers: the project would be a mixture."""
    command = [sys.executable, "-m", "cookiecutter", "-o", str(tmp_path / "out")]
    first = [f"{name}={value}" for name, value in Answers("redis", ("user",)).context.items()]
    subprocess.run([*command, "--no-input", str(ROOT), *first], env=env, check=True)
    (replay,) = tmp_path.glob("*.json")
    context = json.loads(replay.read_text())
    context["cookiecutter"] |= {question: answer}
    replay.write_text(json.dumps(context))
    again = subprocess.run(
        [*command[:-1], str(tmp_path / "again"), "--replay", str(ROOT)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode != 0
    assert f"- {named} = " in again.stderr
    assert "without --replay" in again.stderr
    assert not list((tmp_path / "again").glob("*"))
