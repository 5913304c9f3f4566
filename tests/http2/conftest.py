"""Both engines stand for the same protocol: what holds for one is asked of the other."""

from __future__ import annotations

import pytest

from dynamo_h2.http2.engine import Engine
from dynamo_h2.http2.fast import FastEngine
from tests.http2.frame_factory import Rig


@pytest.fixture(params=[Engine, FastEngine], ids=["stock", "fast"])
def each_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with each engine behind `Rig`."""
    monkeypatch.setattr(Rig, "engine_class", request.param)
