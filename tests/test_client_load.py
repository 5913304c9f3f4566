"""Many requests, big bodies, slow peers: nothing is lost, and memory stays bounded."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from dynamo_h2 import ConnectError, HttpRequestClient, TransportError
from examples.worker import pattern
from tests.behaviours import at_most, client_for, noise, patient, sha256, standstill
from tests.http2.frame_factory import DATA, HEADERS, INITIAL_WINDOW, MAX_FRAME
from tests.peers import Peer
from tests.peers.scripted import Connection, scripted_peer
from tests.transport.listening import refusing_port

MIB = 1 << 20
REQUESTS = 10_000
IN_FLIGHT = 256


async def test_ten_thousand_bodies_come_back_as_they_went_out(granian: Peer) -> None:
    url = granian.url("/echo")
    source = noise(MIB)

    async def echo(number: int) -> bool:
        start, size = number * 97, number % 3000
        answer = await client.send_request(url, source[start : start + size])
        return sha256(answer) == sha256(source[start : start + size])

    def requests() -> Iterator[Callable[[], Awaitable[bool]]]:
        for number in range(REQUESTS):
            yield lambda number=number: echo(number)  # type: ignore[misc]

    async with client_for(granian) as client:
        results = await at_most(IN_FLIGHT, requests())
        stats = client.stats()
    assert results == [True] * REQUESTS
    assert (stats.responses, stats.errors, stats.streams_in_flight) == (REQUESTS, 0, 0)


async def test_ten_thousand_answers_of_nginx_arrive_whole_over_its_goaways(nginx: Peer) -> None:
    """By default nginx ends a connection with GOAWAY after a thousand requests."""
    expected = {size: sha256(pattern(size)) for size in (0, 1, 1000, 1024, 16_384)}
    sizes = sorted(expected)

    async def get(size: int) -> bool:
        response = await client.request("GET", nginx.url(f"/bytes/{size}"))
        return response.status == 200 and sha256(response.body) == expected[size]

    def requests() -> Iterator[Callable[[], Awaitable[bool]]]:
        for number in range(REQUESTS):
            yield lambda size=sizes[number % 5]: get(size)  # type: ignore[misc]

    async with client_for(nginx) as client:
        results = await at_most(IN_FLIGHT, requests())
        stats = client.stats()
    assert results == [True] * REQUESTS
    assert (stats.responses, stats.errors, stats.streams_in_flight) == (REQUESTS, 0, 0)
    assert stats.connections_opened >= REQUESTS // 1000


async def test_the_next_requests_succeed_after_a_thousand_cancels(granian: Peer) -> None:
    rng = random.Random(1)
    kinds = ["/hang", "/tokens?count=1000&interval_ms=1", "/echo", "/v1/rpc/x", f"/bytes/{MIB}"]

    async def give_up() -> None:
        body = bytes(rng.randrange(100_000))
        task = asyncio.create_task(
            client.request("POST", granian.url(rng.choice(kinds)), body=body)
        )
        await asyncio.sleep(rng.random() * 0.01)
        task.cancel()
        # So many resets make the server give the connection up: others on it may fail.
        with contextlib.suppress(asyncio.CancelledError, TransportError):
            await task

    async with client_for(granian) as client:
        for _ in range(20):
            await asyncio.gather(*(give_up() for _ in range(50)))
        assert client.stats().streams_in_flight == 0
        with contextlib.suppress(TransportError):  # a GOAWAY may still be under way
            await client.send_request(granian.url("/v1/rpc/x"), b"")
        for number in range(50):
            body = noise(1000, number)
            assert await client.send_request(granian.url("/echo"), body) == body


async def test_each_of_two_hundred_requests_to_a_port_that_refuses_gets_its_own_error() -> None:
    with refusing_port() as port:
        async with HttpRequestClient(patient()) as client:
            errors = await asyncio.gather(
                *(client.send_request(f"127.0.0.1:{port}/", b"x") for _ in range(200)),
                return_exceptions=True,
            )
            stats = client.stats()
            assert not client.is_healthy
    assert len({id(error) for error in errors}) == 200
    for error in errors:
        assert isinstance(error, ConnectError)
        assert error.processed is False
        assert error.origin == f"http://127.0.0.1:{port}"
        assert "connection refused" in str(error)
    assert (stats.errors, stats.requests_sent, stats.connections_opened) == (200, 0, 0)


# Big bodies


@pytest.mark.parametrize("chunk", [1000, 65_536, 4 * MIB])
async def test_an_upload_to_a_slow_reader_keeps_memory_bounded(chunk: int) -> None:
    """The peer has opened every window: only the transport tells that it does not read."""
    total = 64 * MIB if chunk > 1000 else 24 * MIB
    digest, received = hashlib.sha256(), hashlib.sha256()

    async def body() -> AsyncIterator[bytes]:
        for number in range(0, total, chunk):
            piece = (b"%15d" % number) * (chunk // 15) + bytes(chunk % 15)
            digest.update(piece)
            yield piece

    async def slow_reader(connection: Connection) -> None:
        connection.forget_data = True
        await connection.handshake((INITIAL_WINDOW, 2**31 - 1), (MAX_FRAME, MIB))
        connection.window_update(0, 2**31 - 1 - 65_535)
        head = await connection.recv_until(HEADERS)
        connection.freeze()
        await standstill(client)
        connection.thaw()
        frame = await connection.recv_until(DATA)
        while not frame.end_stream:
            received.update(frame.data)
            frame = await connection.recv_until(DATA)
        received.update(frame.data)
        connection.respond(head.stream_id)

    async with scripted_peer(slow_reader) as peer, HttpRequestClient(patient()) as client:
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            await client.send_request(peer.url(), body(), timeout=None)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert digest.digest() == received.digest()
    assert peak - before < 16 * MIB


async def draining_echo(connection: Connection) -> None:
    """Send each piece of a body back, and read on only once it is out."""
    connection.forget_data = True
    await connection.handshake((MAX_FRAME, MIB))
    head = await connection.recv_until(HEADERS)
    connection.headers(head.stream_id, [(b":status", b"200")])
    ended = False
    while not ended:
        frame = await connection.recv_until(DATA)
        ended = frame.end_stream
        if frame.length:
            connection.window_update(0, frame.length)
            connection.window_update(head.stream_id, frame.length)
        connection.data(head.stream_id, frame.data, end_stream=ended)
        await connection.drain()


@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "iterated"])
async def test_a_big_echo_passes_through_a_peer_that_drains_before_it_reads(
    in_memory: bool,
) -> None:
    body = noise(MIB) * 64

    def pieces() -> Iterator[bytes]:
        for _ in range(64):
            yield body[:MIB]

    async with scripted_peer(draining_echo) as peer, HttpRequestClient(patient()) as client:
        source = body if in_memory else pieces()
        answer = await client.send_request(peer.url(), source, timeout=None)
    assert sha256(answer) == sha256(body)


async def test_a_small_request_does_not_wait_for_a_big_upload() -> None:
    order: list[bytes] = []

    async def handler(connection: Connection) -> None:
        await connection.handshake()
        while True:
            request = await connection.recv_request()
            order.append(request[b":path"])
            connection.respond(request.stream_id)

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        await client.request("GET", peer.url("/first"))
        big = asyncio.create_task(client.request("POST", peer.url("/big"), body=bytes(4 * MIB)))
        await asyncio.sleep(0)
        for _ in range(3):
            await client.request("POST", peer.url("/small"), body=b"small")
        await big
    assert order == [b"/first", b"/small", b"/small", b"/small", b"/big"]
