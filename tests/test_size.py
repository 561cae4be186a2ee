"""The budget of a generated project, in lines."""

from collections.abc import Callable
from pathlib import Path

from tests.baking import BACKENDS, ROUTES, Answers, each
from tests.size import measure


@each([Answers(backend, tuple(ROUTES)) for backend in BACKENDS])
def test_a_project_is_within_its_budget(
    answers: Answers, project: Callable[[Answers], Path]
) -> None:
    rows = measure(project(answers), answers.backend)
    over = [f"{row.name}: {row.lines} lines of {row.budget}" for row in rows if row.over]
    assert not over, "\n".join(over)
