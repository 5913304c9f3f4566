"""What the tests of the client share: clients for the peers, bodies that can be told apart."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TypeVar

from dynamo_h2 import Http2Config, HttpRequestClient
from tests.http2.frame_factory import CANCEL, PING, RST_STREAM
from tests.peers import Peer
from tests.peers.scripted import Connection, ScriptedPeer

T = TypeVar("T")

# A shared machine stalls: no request of a test is to fail because of that.
PATIENCE = 30.0

CHUNK = 65_536


def client_for(peer: Peer, **config: object) -> HttpRequestClient:
    """A client that can reach a server and has patience with it.

    Args:
        peer: The server; its certificates, if it has some, are trusted.
        config: Fields of the configuration.
    """
    context = peer.certificates.client_context() if peer.certificates else None
    return HttpRequestClient(patient(**config), ssl_context=context)


def patient(**fields: object) -> Http2Config:
    """A configuration whose times are long, where `fields` do not say otherwise."""
    times = {"request_timeout": PATIENCE, "connect_timeout": PATIENCE}
    return Http2Config().replace(**{**times, **fields})


async def shake(connection: Connection) -> None:
    """A script that only exchanges SETTINGS: the test itself does the rest."""
    await connection.handshake()


async def serve(connection: Connection) -> None:
    """A script that echoes every request."""
    await connection.handshake()
    await connection.serve(lambda request: bytes(request.body))


async def greeted(peer: ScriptedPeer, index: int = 0) -> Connection:
    """Wait for a connection whose script, such as `shake`, has come to its end."""
    connection = await peer.connection(index)
    await peer.finished()
    return connection


async def expect_cancel(connection: Connection, stream_id: int) -> None:
    """Wait for the RST_STREAM of a stream: nothing else has to happen first."""
    reset = await connection.recv_until(RST_STREAM, stream_id)
    assert reset.code == CANCEL


async def answer_next(connection: Connection) -> None:
    request = await connection.recv_request()
    connection.respond(request.stream_id, b"next")


async def expect_alive(
    client: HttpRequestClient, peer: ScriptedPeer, connection: Connection
) -> None:
    """The same connection carries the next request, and nothing is left of the ones before."""
    response, _ = await asyncio.gather(client.request("GET", peer.url()), answer_next(connection))
    assert response.body == b"next"
    stats = client.stats()
    assert (stats.streams_in_flight, stats.connections_opened) == (0, 1)


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes in which every shift and every loss shows."""
    return random.Random(seed).randbytes(size)


def sha256(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


def pieces(data: bytes, size: int = CHUNK) -> Iterator[bytes]:
    """Cut `data` into pieces of `size` bytes."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def async_pieces(data: bytes, size: int = CHUNK) -> AsyncIterator[bytes]:
    """The same for a body that has to be waited for."""
    for piece in pieces(data, size):
        await asyncio.sleep(0)
        yield piece


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is so; the time limit of the test is the bound."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.001)


async def settled(connection: Connection) -> None:
    """Wait until the client has read all that was sent to it, and its answers have arrived."""
    connection.ping(b"settled?")
    await connection.recv_until(PING)


async def until_known(ask: Callable[[], Awaitable[T]], expected: T) -> None:
    """Ask until the answer is as expected; the time limit of the test is the bound."""
    while await ask() != expected:  # noqa: ASYNC110 - another process knows
        await asyncio.sleep(0.001)


def healthy(client: HttpRequestClient) -> bool:
    """Ask anew: type checkers take a property for something that does not change."""
    return client.is_healthy


async def turns(count: int) -> None:
    """Let the loop turn `count` times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def standstill(client: HttpRequestClient, quiet: float = 0.01) -> None:
    """Wait until the client sends nothing more, however often the loop turns.

    Args:
        client: Whose bytes are watched.
        quiet: How long, in seconds, nothing may be sent: a hundred turns may be over before the
            kernel has brought what is on its way.
    """
    sent = -1
    while sent != client.stats().bytes_sent:
        sent = client.stats().bytes_sent
        await turns(100)
        await asyncio.sleep(quiet)


async def stuck(client: HttpRequestClient, quiet: float = 0.01) -> None:
    """Wait until no connection takes any more, since no peer reads; arguments as above."""
    while True:
        await standstill(client, quiet)
        assert client._pool is not None
        if client._pool._open and all(protocol._paused for protocol in client._pool._open):
            return


async def at_most(count: int, makers: Iterator[Callable[[], Awaitable[T]]]) -> list[T]:
    """Run all of `makers`, `count` of them at any time."""
    results: list[T] = []

    async def worker() -> None:
        for make in makers:
            results.append(await make())  # noqa: PERF401 - no comprehension: others append too

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(worker())
    return results
