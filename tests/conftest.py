"""Fixtures, and the summary of what was checked."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.baking import ROOT, Answers, no_network

#: `test_engine.py` runs it, once for each backend.
collect_ignore = ["engine"]


@pytest.fixture(scope="session")
def bake(cookies_session: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Bake with hooks and without network: `bake(**answers)` gives pytest-cookies' result."""
    folder = tmp_path_factory.mktemp("no_network")

    def bake(**context: Any) -> Any:
        with no_network(folder):
            return cookies_session.bake(extra_context=context, template=str(ROOT))

    return bake


@pytest.fixture(scope="session")
def project(bake: Callable[..., Any]) -> Callable[[Answers], Path]:
    """Return the project for a combination; each is baked once in each process."""
    baked: dict[Answers, Path] = {}

    def project(answers: Answers) -> Path:
        if answers not in baked:
            result = bake(**answers.context)
            assert result.exception is None
            baked[answers] = result.project_path
        return baked[answers]

    return project


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many combinations were checked, by backend."""
    counts = Counter(
        f"{name}: {value}"
        for report in terminalreporter.stats.get("passed", [])
        for name, value in report.user_properties
    )
    if counts:
        terminalreporter.section("combinations of answers")
    for line, count in sorted(counts.items()):
        terminalreporter.write_line(f"{count:4} {line}")
