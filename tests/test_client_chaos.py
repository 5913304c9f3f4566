"""Whatever a peer does and a caller gives up: every request ends, and nothing is left of it."""

from __future__ import annotations

import asyncio
import random
from functools import partial

import pytest

from dynamo_h2 import HttpRequestClient, Response, TransportError
from dynamo_h2.http2.body import BodySource
from tests.behaviours import async_pieces, at_most, patient, until
from tests.http2.frame_factory import HEADERS, MAX_STREAMS, REFUSED_STREAM, RST_STREAM
from tests.peers.scripted import Connection, scripted_peer

OK = [(b":status", b"200")]
REQUESTS = 200


class Chaos:
    """A peer that does to each request what chance says, and to its connections too."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    async def __call__(self, connection: Connection) -> None:
        rng = self.rng
        if connection.index and rng.random() < 0.1:
            return  # it never says a word
        await connection.expect_preface()
        connection.send_settings(*self.limit())
        while True:
            frame = await connection.recv_frame()
            if frame.kind == HEADERS:
                self.answer(connection, frame.stream_id)
            elif frame.kind != RST_STREAM and frame.length and rng.random() < 0.9:
                connection.window_update(0, frame.length)

    def limit(self) -> list[tuple[int, int]]:
        chosen = self.rng.choice((0, 1, 3, 10, None))
        return [] if chosen is None else [(MAX_STREAMS, chosen or 1)]

    def answer(self, connection: Connection, stream_id: int) -> None:
        rng, dice = self.rng, self.rng.random()
        if dice < 0.5:
            connection.respond(stream_id, bytes(rng.randrange(3000)))
        elif dice < 0.6:
            connection.rst(stream_id, REFUSED_STREAM)
        elif dice < 0.65:
            connection.rst(stream_id, rng.randrange(14))
        elif dice < 0.75:
            connection.headers(stream_id, OK)
            connection.data(stream_id, b"a part")
        elif dice < 0.8:
            connection.headers(stream_id, [(b"x", b"no status")])
        elif dice < 0.85:
            connection.send_settings(*self.limit())
        elif dice < 0.9:
            connection.goaway(rng.choice((0, max(0, stream_id - 2), stream_id, 2**31 - 1)))
        elif dice < 0.92:
            connection.close()
        elif dice < 0.94:
            connection.abort()
        elif dice < 0.95:
            connection.data(0, b"out of place")


async def one(client: HttpRequestClient, url: str, rng: random.Random) -> object:
    """Send a request of some kind, and give it up at some moment; return what became of it."""
    size = rng.choice((0, 10, 5000, 100_000))
    body = bytes(size) if rng.random() < 0.6 else async_pieces(bytes(size), 3000)
    limit = rng.choice((0.02, 0.1, 0.3))
    send = whole if rng.random() < 0.6 else streamed
    task = asyncio.create_task(send(client, url, body, limit, rng))
    if rng.random() < 0.2:
        await asyncio.sleep(rng.random() * 0.01)
        task.cancel()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    return result


async def whole(
    client: HttpRequestClient, url: str, body: BodySource, limit: float, _rng: random.Random
) -> Response:
    return await client.request("POST", url, body=body, timeout=limit)


async def streamed(
    client: HttpRequestClient, url: str, body: BodySource, limit: float, rng: random.Random
) -> Response:
    async with client.stream(
        "POST", url, body=body, timeout=limit, read_timeout=limit, write_timeout=limit
    ) as response:
        if rng.random() < 0.5:
            await response.aread()
        return response


@pytest.mark.parametrize("seed", range(12))
async def test_every_request_ends_and_leaves_nothing_behind(seed: int) -> None:
    rng = random.Random(seed)
    config = patient(
        max_connections_per_host=rng.choice((1, 2, 5)),
        pool_max_idle_per_host=rng.choice((0, 1, 5)),
        max_retries=rng.choice((0, 2)),
        connect_timeout=0.1,
        keep_alive_interval=0.1,
        keep_alive_timeout=0.1,
    )
    async with scripted_peer(Chaos(rng)) as peer:
        client = HttpRequestClient(config)
        makers = (partial(one, client, peer.url(), rng) for _ in range(REQUESTS))
        results = await at_most(20, makers)
        await until(lambda: client.stats().streams_in_flight == 0)
        pool = client._pool
        assert pool is not None
        (host,) = pool._hosts.values()
        # A stream that was reset in silence keeps its slot until the peer shows life, or is dead.
        await until(lambda: not any(each.load for each in host.connections))
        assert not host._waiters
        await client.close()
        stats = client.stats()
    for result in results:
        assert isinstance(result, Response | TransportError | asyncio.CancelledError)
    assert stats.connections_opened == stats.connections_closed
    for kind in (Response, TransportError, asyncio.CancelledError):
        assert any(isinstance(result, kind) for result in results)
