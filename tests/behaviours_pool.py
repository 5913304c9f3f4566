"""What the tests of the pool share: a peer that takes few streams, and requests in the making."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dynamo_h2 import HttpRequestClient, Response
from tests.behaviours import patient, until
from tests.http2.frame_factory import MAX_STREAMS
from tests.peers.scripted import Connection, ScriptedPeer, scripted_peer


@asynccontextmanager
async def limited(
    limit: int, **config: object
) -> AsyncIterator[tuple[ScriptedPeer, HttpRequestClient]]:
    """A peer that takes `limit` streams on each connection, whose requests the test answers.

    The client has one connection to it already, and knows the limit.
    """

    async def handler(connection: Connection) -> None:
        await connection.handshake((MAX_STREAMS, limit))
        if connection.index == 0:
            connection.respond((await connection.recv_request()).stream_id)

    async with scripted_peer(handler) as peer, HttpRequestClient(patient(**config)) as client:
        await client.request("GET", peer.url("/first"))
        yield peer, client


def start(client: HttpRequestClient, peer: ScriptedPeer, path: str) -> asyncio.Task[Response]:
    return asyncio.create_task(client.request("GET", peer.url(path)))


async def hold(client: HttpRequestClient, peer: ScriptedPeer) -> asyncio.Task[Response]:
    """Begin a request, and wait until it is with the peer: it has a slot."""
    task = start(client, peer, "/holder")
    await until(lambda: client.stats().streams_in_flight == 1)
    return task


async def answer(connection: Connection) -> str:
    """Answer the next request; return its path."""
    request = await connection.recv_request()
    connection.respond(request.stream_id, b"answer")
    return request[b":path"].decode()
