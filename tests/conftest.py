"""Fixtures, and the summary of what was checked."""

import re
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


def pytest_unconfigure(config: pytest.Config) -> None:
    """Print what was checked, as the last line.

    A test that runs the tests of a project records `combination`, if it has one, and `suite`, the
    last line that pytest printed there. One that does so on several Pythons records `python`, its
    version.
    """
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None:  # one of xdist's workers
        return
    reports = terminal.stats.get("passed", []) + terminal.stats.get("failed", [])
    found = [pair for report in reports for pair in report.user_properties]
    combinations = {value for name, value in found if name == "combination"}
    pythons = sorted({str(value) for name, value in found if name == "python"})
    suites = [str(value) for name, value in found if name == "suite"]
    if not suites:
        return
    passed, skipped = (
        sum(int(number) for suite in suites for number in re.findall(rf"(\d+) {what}", suite))
        for what in ("passed", "skipped")
    )
    skipped += len(terminal.stats.get("skipped", []))
    terminal.write_line(
        f"{len(combinations)} combinations baked, {len(suites)} suites of {passed:,} tests run, "
        f"{skipped} tests skipped" + (f", on Python {', '.join(pythons)}" if pythons else "")
    )
