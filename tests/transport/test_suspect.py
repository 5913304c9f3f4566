"""Connections whose peers owe a sign of life: who uses them, and what is done instead."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dynamo_h2 import (
    ConnectionLost,
    HttpRequestClient,
    KeepAliveTimeout,
    PoolTimeout,
    RequestTimeout,
    Response,
)
from dynamo_h2.config import Http2Config
from dynamo_h2.http2.connection import State
from dynamo_h2.http2.headers import build_head
from dynamo_h2.http2.request import Request
from dynamo_h2.http2.stream import Stream
from dynamo_h2.metrics import Counters
from dynamo_h2.transport.protocol import ClientProtocol
from tests.behaviours import greeted, patient, standstill, turns, until
from tests.http2.frame_factory import (
    HEADERS,
    MAX_STREAMS,
    OK,
    PING,
    headers,
    parse,
    ping,
    settings,
    settings_ack,
)
from tests.peers.scripted import Connection, Handler, ScriptedPeer, scripted_peer

# Silence is asked about soon, and is not held to be death before the test is over.
SOON = {"keep_alive_interval": 0.05, "keep_alive_timeout": 30}


async def serve_all_but_the_first(connection: Connection) -> None:
    """A script: the first connection is the test's own, the others answer."""
    await connection.handshake()
    if connection.index:
        await connection.serve()


async def mute_after_the_first(connection: Connection) -> None:
    """A script whose later connections never send SETTINGS."""
    if connection.index:
        await connection.expect_preface()
        await connection.until_left()
    await connection.handshake()


async def gone_after_the_first(connection: Connection) -> None:
    """A script whose later connections end at once."""
    if connection.index:
        await connection.expect_preface()
        connection.close()
    else:
        await connection.handshake()


def start(client: HttpRequestClient, peer: ScriptedPeer, path: str = "/") -> asyncio.Task[Response]:
    return asyncio.create_task(client.request("GET", peer.url(path)))


def suspects(client: HttpRequestClient) -> int:
    """How many of the client's connections are suspect."""
    assert client._pool is not None
    return sum(protocol.connection.suspect for protocol in client._pool._open)


@asynccontextmanager
async def silent(
    handler: Handler = serve_all_but_the_first, **config: object
) -> AsyncIterator[tuple[ScriptedPeer, HttpRequestClient, Connection]]:
    """A client whose only connection has become suspect: its peer is the test, and says nothing."""
    async with (
        scripted_peer(handler) as peer,
        HttpRequestClient(patient(**{**SOON, **config})) as client,
    ):
        first = start(client, peer, "/first")
        connection = await greeted(peer)
        connection.respond((await connection.recv_request()).stream_id)
        await first
        await until(lambda: suspects(client) == 1)
        yield peer, client, connection


async def greeted_by_client(connection: Connection) -> None:
    """Wait until the first flight of the client has arrived."""
    await until(lambda: connection.received)


async def answer(connection: Connection) -> str:
    """Answer the next request; return its path."""
    request = await connection.recv_request()
    connection.respond(request.stream_id)
    return request[b":path"].decode()


async def heads(connection: Connection) -> int:
    """How many requests the client has written to a suspect, which it stops to be by this."""
    connection.ping()
    while not (frame := await connection.recv_until(PING)).ack:
        pass
    assert frame.payload == b"12345678"
    return len(connection.log(HEADERS))


async def end(*tasks: asyncio.Task[Response]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


# Another connection


async def test_requests_leave_a_suspect_alone_and_share_the_dial_of_another() -> None:
    async with silent() as (peer, client, connection):
        await asyncio.gather(*(client.request("GET", peer.url()) for _ in range(50)))
        assert client.stats().connections_opened == 2
        assert suspects(client) == 1
        assert await heads(connection) == 1


async def test_a_good_connection_is_preferred_however_loaded_it_is() -> None:
    async with silent() as (peer, client, connection):
        await client.request("GET", peer.url())
        tasks = [start(client, peer) for _ in range(99)]
        await asyncio.gather(*tasks)
        assert client.stats().connections_opened == 2
        assert await heads(connection) == 1


async def test_a_byte_makes_a_suspect_good_again() -> None:
    async with silent() as (peer, client, connection):
        asked = await connection.recv_until(PING)
        connection.ping(asked.payload, ack=True)
        await until(lambda: not suspects(client))
        again = start(client, peer, "/again")
        assert await answer(connection) == "/again"
        await again
        assert client.stats().connections_opened == 1


async def test_who_waits_for_another_connection_is_served_as_soon_as_a_byte_comes() -> None:
    async with silent(mute_after_the_first) as (peer, client, connection):
        waiting = start(client, peer, "/waiting")
        await greeted_by_client(await peer.connection(1))
        assert not waiting.done()
        connection.ping()
        assert await answer(connection) == "/waiting"
        await waiting


async def test_nothing_is_written_ahead_while_a_suspect_may_still_have_to_do() -> None:
    async with silent(mute_after_the_first) as (peer, client, _):
        tasks = [start(client, peer) for _ in range(10)]
        second = await peer.connection(1)
        await greeted_by_client(second)
        await standstill(client)
        assert second.log(HEADERS) == []
        assert client.stats().connections_opened == 2
        await end(*tasks)


# None to be had


@pytest.mark.parametrize(
    ("handler", "opened", "config"),
    [
        (serve_all_but_the_first, 1, {"max_connections_per_host": 1}),
        (gone_after_the_first, 2, {"connect_retries": 0}),
        (gone_after_the_first, 4, {"connect_retries": 2}),
        (mute_after_the_first, 2, {"connect_timeout": 0.1}),
    ],
    ids=["full", "gone", "gone thrice", "mute"],
)
async def test_a_suspect_has_to_do_where_there_can_be_no_other(
    handler: Handler, opened: int, config: dict[str, object]
) -> None:
    async with silent(handler, **config) as (peer, client, connection):
        tasks = [start(client, peer, f"/{number}") for number in range(3)]
        requests = [await connection.recv_until(HEADERS) for _ in range(3)]
        assert suspects(client) == 1
        for request in requests:
            connection.respond(request.stream_id)
        for response in await asyncio.gather(*tasks):
            assert [attempt.error for attempt in response.attempts] == [None]
        assert client.stats().connections_opened == opened


async def test_a_suspect_has_to_do_for_as_many_as_it_takes_when_the_dial_fails() -> None:
    async def handler(connection: Connection) -> None:
        if connection.index:
            await connection.expect_preface()
            connection.close()
        else:
            await connection.handshake((MAX_STREAMS, 2))

    async with silent(handler, connect_retries=0, max_retries=0) as (peer, client, connection):
        tasks = [start(client, peer) for _ in range(5)]
        for _ in range(2):
            await connection.recv_until(HEADERS)
        await standstill(client)
        assert suspects(client) == 1
        assert await heads(connection) == 3
        await end(*tasks)


async def test_a_suspect_has_to_do_when_the_other_connection_says_nothing_either() -> None:
    async with silent(mute_after_the_first, max_connections_per_host=2) as (
        peer,
        client,
        connection,
    ):
        waiting = start(client, peer, "/waiting")
        await until(lambda: client.stats().requests_sent == 2)
        assert suspects(client) == 2
        assert await answer(connection) == "/waiting"
        await waiting


async def test_after_a_dial_in_vain_another_is_tried_in_time() -> None:
    async def handler(connection: Connection) -> None:
        if connection.index == 1:
            await connection.expect_preface()
            connection.close()
        else:
            await serve_all_but_the_first(connection)

    async with silent(handler, connect_retries=0) as (peer, client, connection):
        tasks = [start(client, peer, "/in-vain")]
        frame = await connection.recv_until(HEADERS)
        assert (b":path", b"/in-vain") in (frame.fields or ())
        while client.stats().connections_opened < 3:
            tasks.append(start(client, peer))
            await asyncio.sleep(0.02)
        await client.request("GET", peer.url())
        assert suspects(client) == 1
        await end(*tasks)


async def test_waiting_for_a_sign_of_life_can_take_too_long() -> None:
    async with silent(mute_after_the_first) as (peer, client, _):
        with pytest.raises(PoolTimeout, match="no sign of life"):
            await client.request("GET", peer.url(), pool_timeout=0.05)
        with pytest.raises(RequestTimeout) as raised:
            await client.request("GET", peer.url(), timeout=0.05)
        assert raised.value.processed is False


async def test_cancelling_who_waits_for_another_connection_leaks_nothing() -> None:
    async with silent() as (peer, client, _):
        for count in range(12):
            task = start(client, peer)
            await turns(count)
            await end(task)
        await until(lambda: client.stats().streams_in_flight == 0)
        await client.request("GET", peer.url())
        assert client.stats().connections_opened == 2


# The end of a suspect


async def test_a_dead_suspect_fails_its_streams_and_the_next_request_is_served() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        if connection.index:
            await connection.serve()

    config = patient(keep_alive_interval=0.05, keep_alive_timeout=0.4)
    async with scripted_peer(handler) as peer, HttpRequestClient(config) as client:
        task = start(client, peer)
        await peer.connection()
        with pytest.raises(KeepAliveTimeout) as raised:
            await task
        assert raised.value.processed is None
        assert (await client.request("GET", peer.url())).status == 200
        stats = client.stats()
        assert (stats.connections_opened, stats.connections_closed) == (2, 1)


async def test_a_suspect_that_closes_is_forgotten() -> None:
    async with silent(mute_after_the_first, connect_timeout=5) as (peer, client, connection):
        waiting = start(client, peer)
        second = await peer.connection(1)
        await greeted_by_client(second)
        connection.close()
        await until(lambda: not suspects(client))
        # Written ahead now: there is no other connection to hope for.
        await until(lambda: client.stats().streams_in_flight == 1)
        second.abort()
        with pytest.raises(ConnectionLost):
            await waiting


# The timer, and a loop that is blocked


class Wire:
    """A protocol on one end of a pair of sockets; the other end is the test's."""

    def __init__(self, theirs: socket.socket, **config: object) -> None:
        self.states: list[State] = []
        self.protocol = ClientProtocol(
            Http2Config().replace(**config),
            "http://worker",
            on_state=lambda _, state: self.states.append(state),
            counters=Counters(),
        )
        self.connection = self.protocol.connection
        self.peer = theirs

    def open(self) -> Stream:
        """Start a request."""
        head = build_head("GET", "http", "worker", "/", ())
        return self.connection.open_stream(Request(head), time.monotonic())

    def read(self) -> bytes:
        """What lies in the test's socket."""
        try:
            return self.peer.recv(1 << 20)
        except BlockingIOError:
            return b""

    async def payload_of_ping(self) -> bytes:
        """Wait for a PING."""
        sent = b""
        while PING not in [frame.kind for frame in parse(sent)]:
            await asyncio.sleep(0.001)
            sent += self.read()
        return next(frame.payload for frame in parse(sent) if frame.kind == PING)


@asynccontextmanager
async def wired(**config: object) -> AsyncIterator[Wire]:
    """A connection that is ready, whose first flight was read."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    wire = Wire(theirs, **config)
    with theirs:
        await asyncio.get_running_loop().create_connection(lambda: wire.protocol, sock=ours)
        theirs.send(settings() + settings_ack())
        await until(lambda: State.READY in wire.states)
        await turns(2)
        wire.read()
        yield wire
    await wire.protocol.closed


async def test_a_silent_peer_is_asked_and_suspected_when_the_timer_says_so() -> None:
    async with wired() as wire:
        wire.connection._keep_alive.ask_after = 0.05
        wire.open()
        await until(lambda: State.SUSPECT in wire.states)
        assert [frame.kind for frame in parse(wire.read())] == [HEADERS, PING]
        wire.peer.send(b"\0")
        await until(lambda: wire.states[-1] is State.TRUSTED)
        assert not wire.connection.suspect


async def test_an_answer_that_lies_in_the_socket_of_a_blocked_loop_leaves_no_suspicion() -> None:
    async with wired(**SOON) as wire:
        wire.open()
        wire.peer.send(ping(await wire.payload_of_ping(), ack=True))
        time.sleep(0.5)  # noqa: ASYNC251 - a loop that is blocked is what this is about
        await until(lambda: wire.connection.rtt is not None)
        assert State.SUSPECT not in wire.states


async def test_a_response_that_lies_in_the_socket_of_a_blocked_loop_needs_no_question() -> None:
    async with wired() as wire:
        wire.connection._keep_alive.ask_after = 0.1
        stream = wire.open()
        await until(wire.read)
        wire.peer.send(headers(1, OK))
        time.sleep(0.3)  # noqa: ASYNC251
        await until(lambda: stream.status)
        assert not wire.connection._keep_alive.waiting
        assert wire.read() == b""
