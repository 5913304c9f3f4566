"""Every hostile scenario is played against both engines."""

from __future__ import annotations

import pytest

from tests.hostile.stage import Stage


@pytest.fixture(params=["fast", "stock"])
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(request.param)
