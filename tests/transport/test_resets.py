"""Requests that are given up: what they leave on connections that are silent, and on busy ones."""

from __future__ import annotations

import asyncio

import pytest

from dynamo_h2 import Http2Config, HttpRequestClient, RequestTimeout
from tests.behaviours import PATIENCE, patient, settled, shake, standstill, until
from tests.http2.frame_factory import GOAWAY, HEADERS, MAX_STREAMS, PING, RST_STREAM
from tests.peers import Peer
from tests.peers.scripted import Connection, ScriptedPeer, scripted_peer

LIMIT = 4


async def time_out(client: HttpRequestClient, peer: ScriptedPeer) -> None:
    with pytest.raises(RequestTimeout):
        await client.request("GET", peer.url("/lost"), timeout=0.1)


async def mute_at_first(connection: Connection) -> None:
    """A script: the first connection takes four streams and falls silent; the others serve."""
    await connection.handshake((MAX_STREAMS, LIMIT))
    if connection.index:
        await connection.serve()
    connection.respond((await connection.recv_request()).stream_id)
    connection.freeze()


async def test_a_storm_of_time_outs_fills_a_dead_connection_and_others_serve() -> None:
    async with scripted_peer(mute_at_first) as peer, HttpRequestClient(patient()) as client:
        await client.request("GET", peer.url())
        await asyncio.gather(*(time_out(client, peer) for _ in range(LIMIT)))
        assert client.stats().connections_opened == 1
        assert (await client.request("GET", peer.url())).status == 200
        assert client.stats().connections_opened == 2
        first = await peer.connection(0)
        first.thaw()
        while len(first.log(RST_STREAM)) < LIMIT:
            await first.recv_until(RST_STREAM)
        await settled(first)
        assert len(first.log(HEADERS)) == 1 + LIMIT


async def test_the_ack_of_the_ping_serves_who_waits_for_a_slot() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake((MAX_STREAMS, 1))
        connection.respond((await connection.recv_request()).stream_id)
        connection.freeze()

    config = patient(max_connections_per_host=1)
    async with scripted_peer(handler) as peer, HttpRequestClient(config) as client:
        await client.request("GET", peer.url())
        await time_out(client, peer)
        waiting = asyncio.create_task(client.request("GET", peer.url("/next")))
        await standstill(client)
        assert client.stats().requests_sent == 2
        connection = await peer.connection()
        connection.thaw()
        asked = await connection.recv_until(PING)
        assert len(connection.log(HEADERS)) == 2
        connection.ping(asked.payload, ack=True)
        request = await connection.recv_until(HEADERS)
        connection.respond(request.stream_id)
        assert (await waiting).status == 200


async def test_a_connection_whose_budget_of_resets_is_spent_is_replaced() -> None:
    config = patient(max_resets=5, keep_alive_interval=None)
    async with scripted_peer(shake) as peer, HttpRequestClient(config) as client:
        for index in range(3):
            await asyncio.gather(*(time_out(client, peer) for _ in range(5)))
            await until(lambda: client.stats().connections_closed == index + 1)  # noqa: B023
            connection = await peer.connection(index)
            await connection.until_left()
            assert len(connection.log(RST_STREAM)) == 5
            assert [frame.code for frame in connection.log(GOAWAY)] == [0]


async def give_up_at_once(client: HttpRequestClient, peer: Peer) -> bool:
    """Cancel a request in the turn in which it is written; whether it was not over before."""
    sent = client.stats().bytes_sent
    task = asyncio.create_task(client.request("GET", peer.url("/bytes/16777216")))
    while client.stats().bytes_sent == sent:  # noqa: ASYNC110 - in the very turn
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


@pytest.mark.parametrize("peer", ["nghttpd", "nginx"], indirect=True)
async def test_fifteen_hundred_cancels_in_a_row_cost_no_connection_and_no_request(
    peer: Peer,
) -> None:
    """With the defaults, servers that count resets have nothing to object."""
    async with HttpRequestClient(Http2Config(request_timeout=PATIENCE)) as client:
        for number in range(1500):
            assert await give_up_at_once(client, peer)
            if number % 100 == 0:
                await client.request("GET", peer.url("/bytes/1000"))
        stats = client.stats()
    assert (stats.errors, stats.retries) == (0, 0)
    assert 2 <= stats.connections_opened <= 1500 / 200 + 1


async def test_a_server_that_counts_resets_cuts_off_a_client_without_a_budget(
    nghttpd: Peer,
) -> None:
    """What the budget is for."""
    config = Http2Config(request_timeout=PATIENCE, max_resets=100_000)
    async with HttpRequestClient(config) as client:
        for _ in range(1500):
            await give_up_at_once(client, nghttpd)
        assert client.stats().connections_opened > 1
