"""Says at the end of a run what the differential tests have done, and from which seed."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.differential.driver import DEFAULT_SEED

_said = pytest.StashKey[list[str]]()


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print a line at the end of the run."""
    lines: list[str] = request.config.stash.setdefault(_said, [])
    return lines.append


@pytest.fixture(scope="session")
def seed() -> int:
    """The seed of all sequences; DIFFERENTIAL_SEED sets another."""
    return int(os.environ.get("DIFFERENTIAL_SEED", DEFAULT_SEED))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what was said."""
    if lines := config.stash.get(_said, []):
        terminalreporter.section("differential tests")
        for line in lines:
            terminalreporter.write_line(line)
