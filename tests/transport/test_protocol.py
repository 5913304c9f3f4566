"""The asyncio side of a connection: when it writes, and how much."""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic
from typing import Any

import pytest

from dynamo_h2 import HttpRequestClient
from dynamo_h2.config import Http2Config
from dynamo_h2.errors import TransportError
from dynamo_h2.http2.connection import State
from dynamo_h2.http2.engine import MAX_QUEUED_CONTROL
from dynamo_h2.http2.stream import Need
from dynamo_h2.http2.uploads import DIRECT_BODY
from dynamo_h2.transport.protocol import FLUSH_LIMIT, HIGH_WATER, LOOKS, QUIET_TURNS
from tests.behaviours import noise, patient, serve, turns
from tests.behaviours_wire import WIDE, Wire, wired
from tests.http2.frame_factory import (
    ACK,
    DATA,
    ENHANCE_YOUR_CALM,
    HEADERS,
    OK,
    PING,
    SETTINGS,
    WINDOW_UPDATE,
    data,
    headers,
    parse,
    ping,
    settings,
    settings_ack,
)
from tests.peers.scripted import scripted_peer

QUANTUM = Http2Config().send_quantum
ANSWERS = (SETTINGS, PING)


# When it writes


async def test_the_first_flight_is_one_write() -> None:
    async with wired() as (_, wire):
        await turns(2)
        assert len(wire.writes) == 1
        assert wire.writes[0].startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert wire.kinds() == [SETTINGS, WINDOW_UPDATE]


async def test_the_first_request_leaves_in_one_write_with_the_preface() -> None:
    async with wired() as (rig, wire):
        rig.open("POST", b"payload")
        await turns(2)
        assert len(wire.writes) == 1
        assert wire.kinds() == [SETTINGS, WINDOW_UPDATE, HEADERS, DATA]


async def test_a_request_on_an_idle_connection_is_written_before_the_call_returns() -> None:
    async with wired(settings(), settings_ack()) as (rig, wire):
        rig.open("POST", b"payload")
        assert wire.kinds() == [HEADERS, DATA]
        await turns(3)
        assert len(wire.writes) == 1


async def test_what_an_answer_brings_about_goes_out_in_the_same_turn() -> None:
    async with wired(settings(), settings_ack()) as (rig, wire):
        first, second = rig.open("POST", b"payload"), rig.open("POST", b"payload")
        await turns(2)
        del wire.writes[:]

        async def ask_again() -> None:
            await first.wait(Need.DONE, monotonic())
            rig.open("POST", b"payload")

        task = asyncio.ensure_future(ask_again())
        await turns(1)
        rig.protocol.data_received(headers(first.stream_id, OK, end_stream=True))
        seen: list[int] = []
        asyncio.get_running_loop().call_soon(lambda: seen.extend(wire.kinds()))
        await task
        await turns(2)
        assert not second.done
        assert seen == wire.kinds() == [HEADERS, DATA]


async def test_what_is_added_beside_it_in_one_turn_goes_out_in_one_write() -> None:
    async with wired(settings(), settings_ack()) as (rig, wire):
        for _ in range(51):
            rig.open("POST", b"payload")
        rig.protocol.data_received(ping())
        assert len(wire.writes) == 1
        await turns(2)
        assert len(wire.writes) == 2
        assert wire.kinds() == [HEADERS, DATA] * 51 + [PING]


async def test_each_turn_that_has_something_writes_once() -> None:
    async with wired(settings(), settings_ack()) as (rig, wire):
        rig.open()
        for number in range(2, 6):
            rig.open()
            rig.open()
            await turns(2)
            assert len(wire.writes) == number


async def test_many_small_requests_are_written_while_more_are_made() -> None:
    async with wired(WIDE, settings_ack()) as (rig, wire):
        for _ in range(90):
            rig.open("POST", bytes(2048))
        early = len(wire.writes)
        assert early > 2
        await turns(2)
        assert len(wire.writes) == early + 1
        # None of them had to stand in line behind the heads of the others.
        assert wire.kinds() == [HEADERS, DATA] * 90
        assert max(map(len, wire.writes)) <= DIRECT_BODY + 90 * 100


async def test_small_requests_that_the_transport_does_not_take_stand_in_line() -> None:
    async with wired(WIDE, settings_ack(), room=0) as (rig, wire):
        for _ in range(90):
            rig.open("POST", bytes(2048))
        await turns(3)
        assert len(wire.writes) == 1
        wire.take(inf)
        await turns(3)
        assert sorted(wire.kinds()) == [DATA] * 90 + [HEADERS] * 90


async def test_bytes_that_ask_for_nothing_are_answered_with_nothing() -> None:
    async with wired(settings(), settings_ack()) as (rig, wire):
        stream = rig.open()
        await turns(2)
        wire.writes.clear()
        rig.protocol.data_received(headers(1, OK))
        rig.protocol.data_received(data(1, b"tok", end_stream=True))
        await turns(2)
        assert stream.body() == b"tok"
        assert not wire.writes


async def test_a_flush_leaves_other_work_its_turn() -> None:
    body = noise(4 << 20)
    async with wired(WIDE, settings_ack()) as (rig, wire):
        rig.open("POST", body)
        sizes: list[int] = []
        while sum(sizes) < len(body):
            before = sum(map(len, wire.writes))
            await asyncio.sleep(0)
            sizes.append(sum(map(len, wire.writes)) - before)
        assert max(sizes) <= FLUSH_LIMIT + HIGH_WATER + 2 * QUANTUM
        assert b"".join(f.payload for f in wire.frames() if f.kind == DATA) == body


async def test_bytes_are_counted() -> None:
    async with wired(settings(), settings_ack()) as (rig, wire):
        sent, received = rig.counters.bytes_sent, rig.counters.bytes_received
        rig.open()
        rig.protocol.data_received(ping())
        await turns(2)
        assert rig.counters.bytes_sent - sent == sum(map(len, wire.writes))
        assert rig.counters.bytes_received - received == len(ping())


# How much it writes


@pytest.mark.parametrize("late", [False, True], ids=["paused at once", "paused late"])
@pytest.mark.parametrize("quantum", [1024, 65_536, 1 << 20])
async def test_the_buffer_of_the_transport_is_bounded(quantum: int, late: bool) -> None:
    config: dict[str, Any] = {"send_quantum": quantum}
    async with wired(WIDE, settings_ack(), room=0, late=late, **config) as (rig, wire):
        for _ in range(5):
            rig.open("POST", noise(4 << 20))
        for _ in range(200):
            await turns(3)
            wire.take(100_000)
    frame_headers = 9 * (HIGH_WATER // 1024 + 2)
    assert HIGH_WATER < wire.most_waiting <= HIGH_WATER + quantum + frame_headers


async def test_nothing_is_written_while_the_transport_is_full_and_all_of_it_after() -> None:
    body = noise(2 << 20)
    async with wired(WIDE, settings_ack(), room=0) as (rig, wire):
        rig.open("POST", body)
        await turns(5)
        written = len(wire.writes)
        rig.open()
        rig.protocol.data_received(ping())
        await turns(5)
        assert len(wire.writes) == written
        wire.take(inf)
        await turns(50)
        # What is small and urgent goes out before the rest of the body.
        rest = parse(b"".join(wire.writes[written:]))
        assert [frame.kind for frame in rest[:2]] == [HEADERS, PING]
        assert b"".join(f.payload for f in wire.frames() if f.kind == DATA) == body


async def test_reading_goes_on_while_only_writing_is_paused() -> None:
    """A peer that drains its writes before it reads on would stand still with us."""
    async with wired(WIDE, settings_ack(), room=0) as (rig, wire):
        rig.open("POST", noise(2 << 20))
        await turns(5)
        for _ in range(400):
            rig.protocol.data_received(ping())
        await turns(5)
        assert "pause_reading" not in wire.calls


async def test_reading_stops_when_answers_pile_up_and_goes_on_when_they_are_out() -> None:
    async with wired(WIDE, settings_ack(), room=0) as (rig, wire):
        rig.open("POST", noise(2 << 20))
        await turns(5)
        for _ in range(501):
            rig.protocol.data_received(ping())
        assert wire.calls == ["pause_reading"]
        rig.protocol.data_received(ping())  # was under way already
        assert wire.calls == ["pause_reading"]
        wire.take(inf)
        await turns(50)
        assert wire.calls == ["pause_reading", "resume_reading"]
        assert wire.kinds().count(PING) == 502


async def test_reading_never_stops_with_tls() -> None:
    """What came meanwhile would be lost with the connection."""
    async with wired(WIDE, settings_ack(), room=0, tls=True) as (rig, wire):
        rig.open("POST", noise(2 << 20))
        await turns(5)
        for _ in range(MAX_QUEUED_CONTROL):
            rig.protocol.data_received(ping())
        assert wire.calls == []
        wire.take(inf)
        await turns(50)
        assert wire.calls == []
        assert wire.kinds().count(PING) == MAX_QUEUED_CONTROL


@pytest.mark.parametrize("tls", [False, True], ids=["without TLS", "TLS"])
async def test_a_peer_that_asks_and_never_reads_is_left(tls: bool) -> None:
    async with wired(WIDE, settings_ack(), room=0, tls=tls) as (rig, wire):
        stream = rig.open("POST", noise(2 << 20))
        await turns(5)
        rig.protocol.data_received(ping() * 1001)
        await turns(5)
        assert isinstance(stream.error, TransportError)
        assert State.CLOSED in rig.states
        assert "close" in wire.calls or "abort" in wire.calls
        assert rig.protocol.connection.closed
    assert getattr(stream.error, "code", None) == ENHANCE_YOUR_CALM


async def test_silence_while_nothing_is_read_is_not_held_against_the_peer() -> None:
    config: dict[str, Any] = {"keep_alive_interval": 0.2, "keep_alive_timeout": 0.2}
    body = noise(2 << 20)
    async with wired(WIDE, settings_ack(), room=0, **config) as (rig, wire):
        stream = rig.open("POST", body)
        await turns(5)
        for _ in range(501):
            rig.protocol.data_received(ping())
        assert wire.calls == ["pause_reading"]
        await asyncio.sleep(0.6)
        assert stream.error is None


# The answer to the first SETTINGS


def acks(wire: Wire) -> list[int]:
    """The frames that were written with an ACK."""
    return [frame.kind for frame in wire.frames() if frame.flags & ACK and frame.kind in ANSWERS]


async def test_the_answer_to_the_first_settings_waits_for_a_response() -> None:
    async with wired() as (rig, wire):
        rig.open("POST", b"payload")
        await turns(2)
        rig.protocol.data_received(settings())
        await turns(QUIET_TURNS - 1)
        assert acks(wire) == []
        await turns(2)
        assert acks(wire) == [SETTINGS]


async def test_a_response_that_is_here_already_comes_before_the_answer_to_settings() -> None:
    async with wired() as (rig, wire):
        stream = rig.open("POST", b"payload")

        async def wait() -> list[int]:
            await stream.wait(Need.DONE, monotonic())
            return acks(wire)

        task = asyncio.create_task(wait())
        await turns(2)
        rig.protocol.data_received(settings())
        # As a loop that reads it in its next turn.
        response = headers(stream.stream_id, OK, end_stream=True)
        asyncio.get_running_loop().call_soon(rig.protocol.data_received, response)
        assert await task == []


async def test_the_answer_to_the_first_settings_waits_for_nothing_else() -> None:
    async with wired() as (rig, wire):
        await turns(2)
        rig.protocol.data_received(settings())
        await turns(1)
        assert acks(wire) == [SETTINGS]


async def test_the_answer_to_the_first_settings_goes_with_what_is_written_meanwhile() -> None:
    async with wired() as (rig, wire):
        rig.open("POST", b"payload")
        await turns(2)
        rig.protocol.data_received(settings())
        rig.open("POST", b"payload")
        await turns(1)
        assert acks(wire) == [SETTINGS]


async def test_a_body_that_may_go_on_does_not_wait_with_the_answer_to_settings() -> None:
    body = noise(1 << 17)
    async with wired() as (rig, wire):
        rig.open("POST", body)
        await turns(3)
        sent = len(wire.writes)
        rig.protocol.data_received(WIDE)
        await turns(1)
        assert acks(wire) == [SETTINGS]
        assert DATA in [frame.kind for frame in parse(b"".join(wire.writes[sent:]))]


async def test_no_later_answer_waits() -> None:
    async with wired(settings()) as (rig, wire):
        rig.open("POST", b"payload")
        await turns(QUIET_TURNS + 2)
        rig.protocol.data_received(ping())
        await turns(1)
        assert acks(wire) == [PING]


# Before it is used again


async def test_a_connection_is_looked_at_for_its_end_only_while_it_is_young() -> None:
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        for left in (*range(LOOKS, -1, -1), 0, 0):
            assert (await client.request("POST", peer.url(), body=b"echo")).body == b"echo"
            assert client._pool is not None
            (protocol,) = client._pool._open
            assert protocol.young == left
