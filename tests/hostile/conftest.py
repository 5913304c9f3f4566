"""Every hostile scenario may take no more than its share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.stage import Stage


@pytest.fixture
def stage(pytestconfig: pytest.Config) -> Iterator[Stage]:
    stage = Stage(pytestconfig.getoption("engine"))
    yield stage
    stage.expect_bounded()
