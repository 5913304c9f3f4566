"""Every hostile scenario is played against both engines, and may take no more than its share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.stage import Stage


@pytest.fixture(params=["fast", "stock"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    stage = Stage(request.param)
    yield stage
    stage.expect_bounded()
