"""Closing a client: what is under way ends, and nothing stays behind."""

from __future__ import annotations

import asyncio

import pytest

from dynamo_h2 import ClientClosed, HttpRequestClient
from tests.behaviours import (
    greeted,
    healthy,
    patient,
    serve,
    shake,
    standstill,
    stuck,
    turns,
    until,
)
from tests.behaviours_pool import limited, start
from tests.http2.frame_factory import GOAWAY, INITIAL_WINDOW, NO_ERROR
from tests.peers.scripted import Connection, scripted_peer
from tests.transport.listening import Listener, listening, silent_port


async def test_closing_ends_requests_in_flight_and_says_goodbye() -> None:
    async with scripted_peer(shake) as peer:
        client = HttpRequestClient(patient())
        tasks = [start(client, peer, "/") for _ in range(3)]
        connection = await greeted(peer)
        for _ in range(3):
            await connection.recv_request()
        await client.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [ClientClosed] * 3
        assert {result.processed for result in results if isinstance(result, ClientClosed)} == {
            None
        }
        assert (await connection.recv_until(GOAWAY)).code == NO_ERROR
        await connection.until_left()
        stats = client.stats()
        assert (stats.connections_opened, stats.connections_closed) == (1, 1)


async def test_closing_ends_who_waits_for_a_slot() -> None:
    async with limited(1, max_connections_per_host=1) as (peer, client):
        holder, waiting = start(client, peer, "/holder"), start(client, peer, "/waiting")
        await (await peer.connection()).recv_request()
        await client.close()
        results = await asyncio.gather(holder, waiting, return_exceptions=True)
        assert [getattr(result, "processed", "") for result in results] == [None, False]
        assert {type(result) for result in results} == {ClientClosed}


async def test_closing_ends_dials_that_are_under_way() -> None:
    with silent_port() as port:
        client = HttpRequestClient(patient())
        task = asyncio.create_task(client.request("GET", f"http://127.0.0.1:{port}/"))
        await turns(5)
        await client.close()
        with pytest.raises(ClientClosed) as raised:
            await task
    assert raised.value.processed is False


async def test_closing_ends_requests_written_ahead() -> None:
    listener = Listener()
    async with listening(listener):
        client = HttpRequestClient(patient())
        url = f"http://127.0.0.1:{listener.port}/"
        tasks = [asyncio.create_task(client.request("GET", url)) for _ in range(150)]
        await until(lambda: client.stats().streams_in_flight == 100)
        await standstill(client)
        await client.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {ClientClosed}
    processed = [getattr(result, "processed", "") for result in results]
    assert (processed.count(None), processed.count(False)) == (100, 50)


@pytest.mark.parametrize("count", range(15))
async def test_closing_at_any_turn_of_a_dial_leaves_nothing_behind(count: int) -> None:
    async with scripted_peer(serve) as peer:
        client = HttpRequestClient(patient())
        task = start(client, peer, "/")
        await turns(count)
        await client.close()
        await asyncio.wait([task])
        assert task.exception() is None or isinstance(task.exception(), ClientClosed)
        assert client.stats().connections_opened == client.stats().connections_closed


async def test_closing_twice_and_at_the_same_time_is_closing_once() -> None:
    async with scripted_peer(serve) as peer:
        client = HttpRequestClient(patient())
        await client.request("GET", peer.url())
        await asyncio.gather(client.close(), client.close())
        await client.close()
        assert client.stats().connections_closed == 1


async def test_a_closed_client_takes_no_requests() -> None:
    async with scripted_peer(serve) as peer:
        client = HttpRequestClient(patient())
        await client.request("GET", peer.url())
        prepared = client.stream("GET", peer.url())
        await client.close()
        assert not client.is_healthy
        with pytest.raises(ClientClosed) as raised:
            await client.request("GET", peer.url())
        assert raised.value.processed is False
        with pytest.raises(ClientClosed) as raised:
            async with prepared:
                pass
        assert raised.value.processed is False


async def test_a_client_that_was_never_used_can_be_closed() -> None:
    client = HttpRequestClient(patient())
    assert healthy(client)
    await client.close()
    assert not healthy(client)
    with pytest.raises(ClientClosed):
        async with client:
            pass


async def test_a_peer_that_does_not_read_holds_nobody_up_who_closes() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake((INITIAL_WINDOW, 2**31 - 1))
        connection.window_update(0, 2**31 - 1 - 65_535)
        connection.freeze()

    async with scripted_peer(handler) as peer:
        client = HttpRequestClient(patient())
        body = bytes(16 << 20)
        task = asyncio.create_task(client.request("POST", peer.url(), body=body, timeout=None))
        await greeted(peer)
        await stuck(client)
        await client.close()
        with pytest.raises(ClientClosed):
            await task
        assert client.stats().connections_closed == 1
