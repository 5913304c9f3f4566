"""The asyncio side of a connection: how it ends, and what a late timer may not end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dynamo_h2.errors import (
    ClientClosed,
    ConnectionLost,
    ConnectTimeout,
    KeepAliveTimeout,
    RequestTimeout,
    TransportError,
)
from dynamo_h2.http2.connection import State
from dynamo_h2.http2.stream import Need
from tests.behaviours import noise, turns, until
from tests.behaviours_wire import WIDE, Rig, Wire, wired
from tests.http2.frame_factory import (
    GOAWAY,
    HEADERS,
    NO_ERROR,
    OK,
    PING,
    RST_STREAM,
    data,
    goaway,
    headers,
    parse,
    ping,
    settings,
    settings_ack,
)

Act = Callable[[Rig, Wire], None]


def idle(_rig: Rig, _wire: Wire) -> None:
    """Nothing is under way."""


def before_settings(rig: Rig, _wire: Wire) -> None:
    rig.open()


def requested(rig: Rig, _wire: Wire) -> None:
    rig.protocol.data_received(settings())
    rig.open()
    rig.open("POST", noise(100_000))


def answered_in_part(rig: Rig, wire: Wire) -> None:
    requested(rig, wire)
    rig.protocol.data_received(headers(1, OK) + data(1, b"part"))


def uploading_after_the_answer(rig: Rig, _wire: Wire) -> None:
    rig.protocol.data_received(settings())
    rig.open("POST", noise(100_000))
    rig.protocol.data_received(headers(1, OK, end_stream=True))


def paused(rig: Rig, wire: Wire) -> None:
    rig.protocol.data_received(WIDE)
    wire.take(0)
    rig.open("POST", noise(1 << 20))
    rig.protocol.flush()


def draining(rig: Rig, wire: Wire) -> None:
    requested(rig, wire)
    rig.protocol.data_received(goaway(3))


def reading_paused(rig: Rig, wire: Wire) -> None:
    paused(rig, wire)
    rig.protocol.data_received(ping() * 501)


def failed(rig: Rig, wire: Wire) -> None:
    requested(rig, wire)
    rig.protocol.data_received(data(0, b"DATA belongs on a stream"))


def closed(rig: Rig, wire: Wire) -> None:
    requested(rig, wire)
    rig.close()


SITUATIONS: list[Act] = [
    idle,
    before_settings,
    requested,
    answered_in_part,
    uploading_after_the_answer,
    paused,
    draining,
    reading_paused,
    failed,
    closed,
]


@pytest.mark.parametrize("flushed", [False, True], ids=["same turn", "later"])
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("how", ["eof", "lost", "reset"])
async def test_the_end_of_a_connection_ends_all_that_was_on_it(
    situation: Act, how: str, flushed: bool
) -> None:
    async with wired() as (rig, wire):
        situation(rig, wire)
        streams = list(rig.protocol.connection.streams.values())
        if flushed:
            await turns(3)
        waiting = [stream.wait(Need.DONE, 0.0) for stream in streams if not stream.has(Need.DONE)]
        if how == "eof":
            assert not rig.protocol.eof_received()
            wire.close()
        else:
            error = ConnectionResetError("reset by peer") if how == "reset" else None
            wire._closing = True
            rig.protocol.connection_lost(error)
        await asyncio.gather(*(_wait(each) for each in waiting))
        assert rig.protocol.connection.closed
        assert not rig.protocol.connection.streams
        assert State.CLOSED in rig.states
        for stream in streams:
            assert stream.ended or isinstance(stream.error, TransportError)
        rig.protocol.data_received(ping())  # late, and of no use any more
        rig.protocol.resume_writing()
    assert rig.protocol.closed.done()


async def _wait(future: object) -> None:
    assert isinstance(future, asyncio.Future)
    await future


async def test_a_request_that_was_written_may_have_been_processed_one_that_was_not_was_not() -> (
    None
):
    async with wired(settings(), settings_ack()) as (rig, wire):
        written = rig.open()
        await turns(2)
        unwritten = rig.open()
        rig.protocol.connection_lost(ConnectionResetError("reset by peer"))
        wire._closing = True
        for stream, processed in ((written, None), (unwritten, False)):
            assert isinstance(stream.error, ConnectionLost)
            assert stream.error.processed is processed
            assert "reset by peer" in str(stream.error)
            assert isinstance(stream.error.__cause__, ConnectionResetError)


async def test_a_connection_that_takes_no_more_is_told_from_one_that_is_lost() -> None:
    async with wired(settings(), settings_ack()) as (rig, _):
        rig.protocol.data_received(goaway(0))
        with pytest.raises(ConnectionLost) as raised:
            rig.open()
        assert raised.value.processed is False


async def test_closing_says_goaway_and_closes_the_transport() -> None:
    async with wired(settings(), settings_ack()) as (rig, wire):
        stream = rig.open()
        await turns(2)
        rig.close()
        assert isinstance(stream.error, ClientClosed)
        await turns(2)
        last = wire.frames()[-1]
        assert (last.kind, last.code) == (GOAWAY, NO_ERROR)
        assert wire.calls[0] == "close"


async def test_an_end_of_the_drained_connection_says_goaway_and_closes() -> None:
    async with wired(settings(), settings_ack()) as (rig, wire):
        rig.open()
        await turns(2)
        rig.protocol.data_received(goaway(1))
        await turns(2)
        assert not wire.calls
        rig.protocol.data_received(headers(1, OK, end_stream=True))
        await turns(2)
        assert wire.frames()[-1].kind == GOAWAY
        assert wire.calls[0] == "close"


async def test_settings_that_do_not_come_in_time_end_the_connection() -> None:
    async with wired(settings_due=time.monotonic() + 0.05) as (rig, wire):
        stream = rig.open()
        await until(lambda: rig.protocol.connection.closed)
        assert isinstance(stream.error, ConnectTimeout)
        assert stream.error.processed is None
        assert wire.frames()[-1].kind == GOAWAY


async def test_a_dead_peer_is_aborted_and_nothing_more_is_written() -> None:
    config: dict[str, Any] = {"keep_alive_interval": 0.02, "keep_alive_timeout": 0.02}
    async with wired(settings(), settings_ack(), **config) as (rig, wire):
        stream = rig.open()
        await until(lambda: rig.protocol.connection.closed)
        assert isinstance(stream.error, KeepAliveTimeout)
        assert wire.calls[0] == "abort"
        assert wire.kinds() == [HEADERS, PING]


async def test_a_deadline_resets_its_stream_when_it_passes() -> None:
    async with wired(settings(), settings_ack()) as (rig, wire):
        begun = time.monotonic()
        stream = rig.open(deadline=begun + 0.03)
        await until(lambda: stream.done)
        assert isinstance(stream.error, RequestTimeout)
        assert time.monotonic() >= begun + 0.03  # never early
        assert wire.kinds()[:2] == [HEADERS, RST_STREAM]


async def test_a_timer_that_fires_late_lets_the_loop_read_before_it_judges() -> None:
    loop = asyncio.get_running_loop()
    async with wired(settings(), settings_ack()) as (rig, _):
        stream = rig.open(deadline=time.monotonic() + 0.05)
        await turns(2)
        time.sleep(0.2)  # noqa: ASYNC251 - a loop that is blocked is what this is about
        # A loop reads only so much in a turn: the answer comes with the next one.
        answer = headers(1, OK, end_stream=True)
        loop.call_soon(loop.call_soon, rig.protocol.data_received, answer)
        await until(lambda: stream.done)
        assert (stream.error, stream.status) == (None, 200)


# A real socket


@asynccontextmanager
async def connected(**config: object) -> AsyncIterator[tuple[Rig, socket.socket]]:
    """A protocol on one end of a pair of sockets; the other end is the test's."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    rig = Rig(config)
    with theirs:
        await asyncio.get_running_loop().create_connection(lambda: rig.protocol, sock=ours)
        try:
            theirs.send(settings() + settings_ack())
            await until(lambda: State.READY in rig.states)
            yield rig, theirs
        finally:
            rig.close()
            theirs.close()
            await rig.protocol.closed


def received(sock: socket.socket) -> bytes:
    """What lies in the socket."""
    sock.setblocking(False)
    try:
        return sock.recv(1 << 20)
    except BlockingIOError:
        return b""


async def test_an_answer_that_lies_in_the_socket_of_a_blocked_loop_proves_life() -> None:
    config = {"keep_alive_interval": 0.05, "keep_alive_timeout": 0.05}
    async with connected(**config) as (rig, peer):
        stream = rig.open()
        sent = b""
        while PING not in [frame.kind for frame in parse(sent)]:
            await asyncio.sleep(0.001)
            sent += received(peer)
        (asked,) = [frame for frame in parse(sent) if frame.kind == PING]
        peer.send(ping(asked.payload, ack=True))
        time.sleep(0.3)  # noqa: ASYNC251 - a loop that is blocked is what this is about
        await asyncio.sleep(0.02)
        assert stream.error is None
        assert not rig.protocol.connection.closed


async def test_a_response_that_lies_in_the_socket_of_a_blocked_loop_is_in_time() -> None:
    async with connected() as (rig, peer):
        stream = rig.open(deadline=time.monotonic() + 0.1)
        await until(lambda: received(peer))
        peer.send(headers(1, OK, end_stream=True))
        time.sleep(0.3)  # noqa: ASYNC251
        await until(lambda: stream.done)
        assert (stream.error, stream.status) == (None, 200)


async def test_without_an_answer_a_blocked_loop_still_finds_the_peer_dead() -> None:
    config = {"keep_alive_interval": 0.05, "keep_alive_timeout": 0.05}
    async with connected(**config) as (rig, _):
        stream = rig.open()
        time.sleep(0.3)  # noqa: ASYNC251
        await until(lambda: stream.done)
        assert isinstance(stream.error, KeepAliveTimeout)
