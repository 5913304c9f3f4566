"""Both engines stand for the same protocol: what holds for one is asked of the other."""

from __future__ import annotations

import pytest

from dynamo_h2.http2.engine import Engine
from tests.http2.frame_factory import Rig


@pytest.fixture
def each_engine(engine_class: type[Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the engine that was asked for behind `Rig`."""
    monkeypatch.setattr(Rig, "engine_class", engine_class)
