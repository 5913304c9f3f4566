"""The asyncio side of a connection: when it writes, how much, and how it ends."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from math import inf

import pytest

from dynamo_h2.config import Http2Config
from dynamo_h2.errors import (
    ClientClosed,
    ConnectionLost,
    ConnectTimeout,
    KeepAliveTimeout,
    RequestTimeout,
    TransportError,
)
from dynamo_h2.http2.connection import State
from dynamo_h2.http2.headers import build_head
from dynamo_h2.http2.stream import Need, Request, Stream
from dynamo_h2.metrics import Counters
from dynamo_h2.transport.protocol import FLUSH_LIMIT, HIGH_WATER, ClientProtocol
from tests.behaviours import noise, turns, until
from tests.http2.frame_factory import (
    DATA,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW,
    MAX_FRAME,
    NO_ERROR,
    OK,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Sent,
    data,
    goaway,
    headers,
    parse,
    ping,
    settings,
    settings_ack,
    window_update,
)

ORIGIN = "http://worker"
WIDE = settings((INITIAL_WINDOW, 2**31 - 1), (MAX_FRAME, 1 << 20)) + window_update(
    0, 2**31 - 1 - 65_535
)
QUANTUM = Http2Config().send_quantum


class Wire(asyncio.Transport):
    """A transport to nowhere: keeps each write, and takes as much as it is told to.

    Args:
        protocol: Whom it serves.
        room: How many bytes the other side takes; what is beyond waits in the buffer.
    """

    def __init__(self, protocol: ClientProtocol, room: float = inf) -> None:
        super().__init__()
        self.protocol = protocol
        self.writes: list[bytes] = []
        self.waiting = 0
        self.most_waiting = 0
        self.calls: list[str] = []
        self._room = room
        self._high = 0
        self._paused = False
        self._closing = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self._high = high

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._closing
        self.writes.append(bytes(data))
        taken = min(len(data), self._room)
        self._room -= taken
        self.waiting += len(data) - int(taken)
        self.most_waiting = max(self.most_waiting, self.waiting)
        if self.waiting > self._high and not self._paused:
            self._paused = True
            self.protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def take(self, size: float) -> None:
        """Let the other side take what waits, and more."""
        taken = min(self.waiting, size)
        self.waiting -= int(taken)
        self._room = size - taken
        if self._paused and self.waiting <= self._high // 4:
            self._paused = False
            self.protocol.resume_writing()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._end("close")

    def abort(self) -> None:
        self._end("abort")

    def _end(self, how: str) -> None:
        self.calls.append(how)
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def pause_reading(self) -> None:
        self.calls.append("pause_reading")

    def resume_reading(self) -> None:
        self.calls.append("resume_reading")

    def frames(self) -> list[Sent]:
        """All that was written, cut into frames."""
        return parse(b"".join(self.writes))

    def kinds(self) -> list[int]:
        return [frame.kind for frame in self.frames()]


class Rig:
    """A protocol with what it reports."""

    def __init__(self, config: dict[str, object], settings_due: float = inf) -> None:
        self.states: list[State] = []
        self.counters = Counters()
        self.protocol = ClientProtocol(
            Http2Config().replace(**config),
            ORIGIN,
            on_state=lambda _, state: self.states.append(state),
            counters=self.counters,
            settings_due=settings_due,
        )

    def close(self) -> None:
        self.protocol.close(partial(ClientClosed, "client was closed"))

    def open(
        self, method: str = "GET", body: bytes | None = None, *, deadline: float = inf
    ) -> Stream:
        """Start a request."""
        head = build_head(method, "http", "worker", "/", ())
        request = Request(head, data=body, limit=1 << 30, deadline=deadline)
        return self.protocol.connection.open_stream(request, time.monotonic())


@asynccontextmanager
async def wired(
    *greeting: bytes, room: float = inf, settings_due: float = inf, **config: object
) -> AsyncIterator[tuple[Rig, Wire]]:
    """A protocol on a `Wire`, after the greeting of the peer; what it wrote so far is forgotten."""
    rig = Rig(config, settings_due)
    wire = Wire(rig.protocol)
    rig.protocol.connection_made(wire)
    if greeting:
        rig.protocol.data_received(b"".join(greeting))
        await turns(2)
        wire.writes.clear()
    wire.take(room)
    try:
        yield rig, wire
    finally:
        wire.abort()
        await rig.protocol.closed


# When it writes


async def test_the_first_flight_is_one_write() -> None:
    async with wired() as (_, wire):
        assert len(wire.writes) == 1
        assert wire.writes[0].startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert wire.kinds() == [SETTINGS, WINDOW_UPDATE]


async def test_what_is_added_in_one_turn_goes_out_in_one_write() -> None:
    async with wired(settings(), settings_ack()) as (rig, wire):
        for _ in range(50):
            rig.open("POST", b"payload")
        rig.protocol.data_received(ping())
        assert not wire.writes
        await turns(2)
        assert len(wire.writes) == 1
        assert wire.kinds() == [HEADERS, DATA] * 50 + [PING]


async def test_each_turn_that_has_something_writes_once() -> None:
    async with wired(settings(), settings_ack()) as (rig, wire):
        for number in range(1, 6):
            rig.open()
            rig.open()
            await turns(2)
            assert len(wire.writes) == number


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


@pytest.mark.parametrize("quantum", [1024, 65_536, 1 << 20])
async def test_the_buffer_of_the_transport_is_bounded(quantum: int) -> None:
    async with wired(WIDE, settings_ack(), room=0, send_quantum=quantum) as (rig, wire):
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


async def test_a_peer_that_asks_and_never_reads_is_left() -> None:
    async with wired(WIDE, settings_ack(), room=0) as (rig, wire):
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
    config = {"keep_alive_interval": 0.2, "keep_alive_timeout": 0.2}
    body = noise(2 << 20)
    async with wired(WIDE, settings_ack(), room=0, **config) as (rig, wire):
        stream = rig.open("POST", body)
        await turns(5)
        for _ in range(501):
            rig.protocol.data_received(ping())
        assert wire.calls == ["pause_reading"]
        await asyncio.sleep(0.6)
        assert stream.error is None


# How it ends

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
    config = {"keep_alive_interval": 0.02, "keep_alive_timeout": 0.02}
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
