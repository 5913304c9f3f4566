"""What the fast engine's shortcuts must not change, one trap each."""

from __future__ import annotations

import pytest

from dynamo_h2.config import Http2Config
from dynamo_h2.http2.fast import FastEngine
from tests.http2.frame_factory import (
    COMPRESSION_ERROR,
    HEADER_TABLE_SIZE,
    MAX_LIST,
    PROTOCOL_ERROR,
    OK,
    Rig,
    headers,
    settings_ack,
)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rig, "engine_class", FastEngine)


# Heads that were seen before


def test_a_known_head_is_too_long_once_the_limit_is_lowered() -> None:
    rig = Rig(streams=2)
    head = OK, (b"x-long", b"v" * 100)
    rig.feed(headers(1, *head))
    assert rig.engine.change_settings({MAX_LIST: 60})
    rig.feed(settings_ack())
    rig.sent()
    assert rig.stream_error(headers(3, *head), stream=3) == PROTOCOL_ERROR


def test_a_known_head_is_wrong_while_the_peer_owes_a_table_size_update() -> None:
    rig = Rig(streams=2)
    rig.feed(headers(1, OK))
    assert rig.engine.change_settings({HEADER_TABLE_SIZE: 100})
    rig.feed(settings_ack())
    assert rig.connection_error(headers(3, OK)) == COMPRESSION_ERROR
