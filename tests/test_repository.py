"""The template's own front: its workflows, README, pictures and licences."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests import pictures
from tests.baking import BACKENDS, EXTREMES, QUESTIONS, ROOT, ROUTES, Answers, each, files

WORKFLOWS = [
    ROOT / ".github/workflows/ci.yml",
    ROOT / "{{cookiecutter.project_slug}}/.github/workflows/ci.yml",
]


@pytest.mark.parametrize(
    "command",
    [
        "zizmor --offline -q .github",
        "check-jsonschema --builtin-schema=vendor.github-workflows .github/workflows/ci.yml",
    ],
)
def test_the_workflow_passes_its_checkers(command: str) -> None:
    program, *arguments = command.split()
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_action_is_pinned_by_hash_and_its_version_is_named() -> None:
    versions: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for line in re.findall(r"uses: (.*)", path.read_text()):
            found = re.fullmatch(r"(\S+)@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)
            assert found, f"{path}: {line}"
            versions.setdefault(found[1], set()).add(line)
    assert [lines for lines in versions.values() if len(lines) > 1] == []
    ignored = list(ROOT.glob("*/zizmor.y*ml")) + list(ROOT.glob(".github/zizmor*"))
    assert ignored == [], "zizmor passes without exceptions"
    assert not [path for path in WORKFLOWS if "zizmor:" in path.read_text()]


README = (ROOT / "README.md").read_text()


def section(text: str, title: str) -> str:
    """Return the text below a heading of level 2."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.fixture(scope="module")
def drawings() -> dict[Path, str]:
    """Return each picture as it would be drawn now."""
    return pictures.drawings()


def seen(svg: str) -> str:
    """Return the text of a picture, without spaces."""
    return "".join("".join(ET.fromstring(svg).itertext()).split())


def test_the_pictures_show_the_prompts_and_facts_as_they_are(drawings: dict[Path, str]) -> None:
    """`make pictures` draws them anew."""
    for path, now in drawings.items():
        assert seen(path.read_text()) == seen(now), path.name


def test_the_picture_of_the_prompts_shows_every_question(drawings: dict[Path, str]) -> None:
    text = seen(drawings[ROOT / "docs/prompts.svg"])
    for label in QUESTIONS["__prompts__"].values():
        for words in label.values() if isinstance(label, dict) else [label]:
            assert "".join(words.split()) in text
    assert "isready" in text


def test_a_picture_needs_nothing_from_elsewhere() -> None:
    for path in (ROOT / "docs").rglob("*.svg"):
        loads = r"(?:href|src|style)=|url\((?!#)|@import|<(?:script|image|style|foreignObject)"
        assert not re.search(loads, path.read_text()), path.name


def test_every_picture_is_in_the_readme_with_its_text(drawings: dict[Path, str]) -> None:
    shown = dict(re.findall(r"!\[([^]]*)\]\((docs/[^)]*)\)", README))
    assert set(shown.values()) == {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "docs").rglob("*")
        if path.suffix in (".svg", ".png")
    }
    for label, text in pictures.badges().items():
        name = f"docs/badge-{label.lower()}.svg"
        (said,) = (words for words, path in shown.items() if path == name)
        assert said.replace(":", "").lower() == f"{label} {text}".lower()


def test_the_badges_are_true() -> None:
    badges = pictures.badges()
    oldest, _, newest = badges["Python"].partition(" to ")
    pyproject = (ROOT / "{{cookiecutter.project_slug}}/pyproject.toml").read_text()
    assert f'requires-python = ">={oldest}"' in pyproject
    for path in WORKFLOWS:
        text = re.sub(r'{{ "(.*?)" }}', r"\1", path.read_text())
        pythons = yaml.safe_load(text)["jobs"]["test"]["strategy"]["matrix"]["python"]
        assert (pythons[0], pythons[-1]) == (oldest, newest), path
    # On every push: `on` is a boolean to YAML.
    assert "push" in yaml.safe_load(WORKFLOWS[0].read_text())[True]


def test_the_tree_of_the_readme_is_that_of_a_project(project: Callable[[Answers], Path]) -> None:
    """Each of its lines exists, and none of a project's folders and files is left out."""
    root = project(Answers("memory", tuple(ROUTES)))
    tree = re.search(r"```\nmy_cached_app/\n(.*?)```", README, re.DOTALL)
    assert tree
    named: set[str] = set()
    above = ""
    for line in tree[1].replace("my_cached_app", root.name).splitlines():
        found = re.match(r"(│   )?[├└]── (\S+)", line)
        assert found, line
        above = "" if not found[1] else above
        assert (root / above / found[2]).exists(), line
        named = named - {above} | {above + found[2]}
        above = above or found[2]
    left_out = [
        name
        for name in files(root)
        if not any(name == one or (one.endswith("/") and name.startswith(one)) for one in named)
    ]
    assert left_out == [".dockerignore", ".gitattributes", ".gitignore", "src/shop/py.typed"]


def test_the_articles_lines_are_those_of_the_reference(project: Callable[[Answers], Path]) -> None:
    """The reference of a project has those that concern its backend and its examples."""
    title = "The article's line, and ours"
    rows = {
        row
        for backend in BACKENDS
        for row in section(
            (project(Answers(backend, tuple(ROUTES))) / "docs/caching.md").read_text(), title
        ).splitlines()
    }
    assert rows == set(section(README, title).splitlines())
    small = section((project(Answers("memory", ())) / "docs/caching.md").read_text(), title)
    assert set(small.splitlines()) < rows
    assert len(small.splitlines()) > 10


@each(EXTREMES)
def test_a_project_carries_no_notice_and_says_whose_it_is(
    answers: Answers, project: Callable[[Answers], Path]
) -> None:
    content = files(project(answers))
    assert not [name for name in content if re.search("licen[cs]e|copying|notice", name, re.I)]
    assert not [name for name, text in content.items() if re.search(b"(?i)copyright|SPDX", text)]
    readme = " ".join(content["README.md"].decode().split())
    assert "The project is yours, under any license" in readme


def test_the_license_covers_every_folder_that_is_copied_into_a_project() -> None:
    scope = (ROOT / "LICENSE").read_text().partition("\n---")[0]
    named = set(re.findall(r'"(.*?)"', scope))
    assert named == {"{{cookiecutter.project_slug}}", "templates"}
    assert all((ROOT / folder).is_dir() for folder in named)


@pytest.mark.parametrize("page", ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_link_leads_to_a_file(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text()):
        assert (ROOT / target).exists(), target


def test_contributors_are_told_of_every_target_of_make() -> None:
    told = (ROOT / "CONTRIBUTING.md").read_text()
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    of_users = {"help", "demo", "new", "clean"}
    assert not [name for name in targets if f"`make {name}`" not in told and name not in of_users]
