"""Origins that ask for calm: how often they are asked from then on, and who is told."""

from __future__ import annotations

import asyncio
import logging

import pytest

from dynamo_h2 import Http2Config, HttpRequestClient
from dynamo_h2.transport.calm import KeepAliveIntervals
from tests.behaviours import greeted, patient, settled, shake, until
from tests.http2.frame_factory import ENHANCE_YOUR_CALM
from tests.peers.scripted import Connection, scripted_peer

ORIGIN = "http://worker:8000"


def warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "dynamo_h2"]


def test_an_origin_that_asked_for_nothing_has_the_interval_of_the_configuration() -> None:
    config = Http2Config()
    intervals = KeepAliveIntervals(config)
    intervals.lengthen("http://other", 30.0)
    assert intervals.config_for(ORIGIN) is config


def test_the_interval_doubles_each_time_up_to_a_day(caplog: pytest.LogCaptureFixture) -> None:
    intervals = KeepAliveIntervals(Http2Config(keep_alive_interval=10_000))
    seen = []
    for _ in range(5):
        intervals.lengthen(ORIGIN, intervals.config_for(ORIGIN).keep_alive_interval)
        seen.append(intervals.snapshot()[ORIGIN])
    assert seen == [20_000.0, 40_000.0, 80_000.0, 86_400.0, 86_400.0]
    (record,) = warnings(caplog)
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"{ORIGIN} asked for calm")


def test_connections_of_the_same_age_that_are_told_together_double_it_once() -> None:
    intervals = KeepAliveIntervals(Http2Config())
    for _ in range(5):
        intervals.lengthen(ORIGIN, 30.0)
    assert intervals.snapshot() == {ORIGIN: 60.0}
    intervals.lengthen(ORIGIN, 60.0)
    intervals.lengthen(ORIGIN, 30.0)  # an old one
    assert intervals.snapshot() == {ORIGIN: 120.0}


def test_who_is_never_asked_cannot_be_asked_less(caplog: pytest.LogCaptureFixture) -> None:
    intervals = KeepAliveIntervals(Http2Config(keep_alive_interval=None))
    intervals.lengthen(ORIGIN, None)
    assert intervals.snapshot() == {}
    assert warnings(caplog) == []


def test_only_so_many_origins_are_remembered() -> None:
    intervals = KeepAliveIntervals(Http2Config())
    for number in range(1_500):
        intervals.lengthen(f"http://worker-{number}", 30.0)
    assert list(intervals.snapshot()) == [f"http://worker-{number}" for number in range(500, 1_500)]


async def test_goaway_that_asks_for_calm_lengthens_the_interval_of_later_connections(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        intervals = []
        for index in range(3):
            task = asyncio.create_task(client.request("GET", peer.url()))
            connection = await greeted(peer, index)
            connection.respond((await connection.recv_request()).stream_id)
            await task
            assert client._pool is not None
            (protocol,) = client._pool._open
            intervals.append(protocol.connection.keep_alive_interval)
            connection.goaway(1, ENHANCE_YOUR_CALM, b"too_many_pings")
            await connection.until_left()
            await until(lambda index=index: client.stats().connections_closed == index + 1)  # type: ignore[misc]
        assert intervals == [30, 60, 120]
        assert client.stats().keep_alive_intervals == {peer.base: 240}
    assert len(warnings(caplog)) == 1


async def test_no_request_is_lost_by_it() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        if connection.index:
            await connection.serve()

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        seen, unseen = (
            asyncio.create_task(client.request("GET", peer.url(path))) for path in ("/1", "/2")
        )
        connection = await greeted(peer)
        request = await connection.recv_request()
        await connection.recv_request()
        connection.goaway(request.stream_id, ENHANCE_YOUR_CALM, b"too_many_pings")
        await settled(connection)
        connection.respond(request.stream_id, b"seen")
        assert (await seen).body == b"seen"
        assert [attempt.error is None for attempt in (await unseen).attempts] == [False, True]
        assert client.stats().errors == 0
