"""The budget of a generated project, in lines."""

from collections.abc import Callable
from pathlib import Path

from tests.baking import BACKENDS, ROUTES, Answers, each
from tests.size import KNOWN, measure


@each([Answers(backend, tuple(ROUTES)) for backend in BACKENDS])
def test_no_part_of_a_project_exceeds_its_budget_by_more_than_is_known(
    answers: Answers, project: Callable[[Answers], Path]
) -> None:
    rows = measure(project(answers), answers.backend)
    known = {name: lines for (backend, name), lines in KNOWN.items() if backend == answers.backend}
    over = [row for row in rows if row.lines > row.budget + known.get(row.name, 0)]
    assert not over, "\n".join(f"{row.name}: {row.lines} lines of {row.budget}" for row in over)
